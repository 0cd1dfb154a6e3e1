package wire

// Undo brings the target at Path back to what it held before the newest transfer
// whose log is in the directory Dir. Progress frames come meanwhile.
type Undo struct {
	path
	Dir   string // on the host of the target
	Check bool   // only compare the target with the log
	Force bool   // also where somebody else has written since
	Which
}

// Which is the log or spool that a request is about: without a name whatever there is.
type Which struct {
	Look bool   // only tell what there is; nothing is compared
	Log  string // which one, as the property of that name says; when that is gone, nothing is done
}

func (w *Which) validate() error { return checkStrings(MaxName, w.Log) }

func (w *Which) append(b []byte) []byte { return appendString(appendBool(b, w.Look), w.Log) }

func (w *Which) decode(d *decoder) { w.Look, w.Log = d.bool(), d.string(MaxName) }

func (*Undo) Type() Type { return TypeUndo }

// Validate refuses a path or directory that is empty or too long.
func (m *Undo) Validate() error {
	if m.Dir == "" {
		return ErrInvalid
	}
	if err := checkStrings(MaxPath, m.Dir); err != nil {
		return err
	}
	if err := m.Which.validate(); err != nil {
		return err
	}
	return m.path.Validate()
}

func (m *Undo) append(b []byte) []byte {
	return m.Which.append(appendBool(appendBool(appendString(m.path.append(b), m.Dir), m.Check), m.Force))
}

func (m *Undo) decode(d *decoder) {
	m.path.decode(d)
	m.Dir, m.Check, m.Force = d.string(MaxPath), d.bool(), d.bool()
	m.Which.decode(d)
}

// Recover ends what a transfer to the target at Path has left in the spool that is in
// the directory Dir: all of it is applied, or nothing was and it is removed.
type Recover struct {
	path
	Dir string // on the host of the target
	Which
}

func (*Recover) Type() Type { return TypeRecover }

// Validate refuses a path or directory that is empty or too long.
func (m *Recover) Validate() error {
	return (&Undo{path: m.path, Dir: m.Dir, Which: m.Which}).Validate()
}

func (m *Recover) append(b []byte) []byte {
	return m.Which.append(appendString(m.path.append(b), m.Dir))
}

func (m *Recover) decode(d *decoder) {
	m.path.decode(d)
	m.Dir = d.string(MaxPath)
	m.Which.decode(d)
}
