package wire

// Undo brings the target at Path back to what it held before the newest transfer
// whose log is in the directory Dir. Progress frames come meanwhile.
type Undo struct {
	path
	Dir   string // on the host of the target
	Check bool   // only compare the target with the log
	Force bool   // also where somebody else has written since
}

func (*Undo) Type() Type { return TypeUndo }

// Validate refuses a path or directory that is empty or too long.
func (m *Undo) Validate() error {
	if m.Dir == "" {
		return ErrInvalid
	}
	if err := checkStrings(MaxPath, m.Dir); err != nil {
		return err
	}
	return m.path.Validate()
}

func (m *Undo) append(b []byte) []byte {
	return appendBool(appendBool(appendString(m.path.append(b), m.Dir), m.Check), m.Force)
}

func (m *Undo) decode(d *decoder) {
	m.path.decode(d)
	m.Dir, m.Check, m.Force = d.string(MaxPath), d.bool(), d.bool()
}
