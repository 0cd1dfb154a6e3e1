package wire

// Trust asks since when nobody has written to the target that is open, and has the helper
// keep the proof of it at its end, under the name of this run. It comes before the first
// Receive, in the leading session of a transfer.
type Trust struct{ Run Claim }

func (*Trust) Type() Type { return TypeTrust }

// Validate refuses a run without a name.
func (m *Trust) Validate() error {
	if m.Run == (Claim{}) {
		return ErrInvalid
	}
	return nil
}

func (m *Trust) append(b []byte) []byte { return append(b, m.Run[:]...) }
func (m *Trust) decode(d *decoder)      { copy(m.Run[:], d.take(len(m.Run))) }

// Proof answers Trust.
type Proof struct {
	Able  bool   // a proof can be kept of this target
	Since Claim  // the run since whose end nobody has written to it; zero for none
	Doubt string // why there is none, for people
}

func (*Proof) Type() Type { return TypeProof }

// Validate refuses a proof of what cannot be proved, and one with a doubt.
func (m *Proof) Validate() error {
	if m.Since != (Claim{}) && (!m.Able || m.Doubt != "") {
		return ErrInvalid
	}
	return checkStrings(MaxText, m.Doubt)
}

func (m *Proof) append(b []byte) []byte {
	return appendString(append(appendBool(b, m.Able), m.Since[:]...), m.Doubt)
}

func (m *Proof) decode(d *decoder) {
	m.Able = d.bool()
	copy(m.Since[:], d.take(len(m.Since)))
	m.Doubt = d.string(MaxText)
}
