package wire

import "encoding/binary"

// Hello is the first frame of both ends.
type Hello struct {
	Version  uint16
	Features Features
	OS, Arch string // as Go names them
	Build    string // version of the program, for people
	BootID   string // changes with every boot of the host; empty where unknown
}

func (*Hello) Type() Type { return TypeHello }

func (m *Hello) Validate() error {
	return checkStrings(MaxName, m.OS, m.Arch, m.Build, m.BootID)
}

func (m *Hello) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, m.Version)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Features))
	for _, s := range []string{m.OS, m.Arch, m.Build, m.BootID} {
		b = appendString(b, s)
	}
	return b
}

func (m *Hello) decode(d *decoder) {
	m.Version = d.uint16()
	m.Features = Features(d.uint64())
	for _, s := range []*string{&m.OS, &m.Arch, &m.Build, &m.BootID} {
		*s = d.string(MaxName)
	}
}

// Cancel ends the last request sent. When that has ended already it means nothing.
type Cancel struct{ empty }

func (*Cancel) Type() Type { return TypeCancel }

// Done ends a request that succeeded.
type Done struct{ empty }

func (*Done) Type() Type { return TypeDone }

func (*Error) Type() Type { return TypeError }

// Validate refuses the code 0, which no failure has.
func (e *Error) Validate() error {
	if e.Code == 0 || e.Offset < -1 {
		return ErrInvalid
	}
	return checkStrings(MaxText, e.Text)
}

func (e *Error) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(e.Code))
	return appendString(appendInt64(b, e.Offset), e.Text)
}

func (e *Error) decode(d *decoder) {
	e.Code, e.Offset, e.Text = Code(d.uint16()), d.int64(), d.string(MaxText)
}

// Notice is a line for the log of the client.
type Notice struct{ Text string }

func (*Notice) Type() Type               { return TypeNotice }
func (m *Notice) Validate() error        { return checkStrings(MaxText, m.Text) }
func (m *Notice) append(b []byte) []byte { return appendString(b, m.Text) }
func (m *Notice) decode(d *decoder)      { m.Text = d.string(MaxText) }

// Progress shows that a request which sends nothing else is alive.
type Progress struct{ Done int64 } // bytes

func (*Progress) Type() Type               { return TypeProgress }
func (m *Progress) Validate() error        { return checkSizes(m.Done) }
func (m *Progress) append(b []byte) []byte { return appendInt64(b, m.Done) }
func (m *Progress) decode(d *decoder)      { m.Done = d.int64() }

// Clip cuts a text to what an Error or a Notice may hold.
func Clip(s string) string { return s[:min(len(s), MaxText)] }

// empty is a message without fields.
type empty struct{}

func (empty) Validate() error        { return nil }
func (empty) append(b []byte) []byte { return b }
func (empty) decode(*decoder)        {}

func checkStrings(max int, s ...string) error {
	for _, s := range s {
		if len(s) > max {
			return ErrTooLong
		}
	}
	return nil
}

// checkSizes refuses negative numbers of bytes or extents.
func checkSizes(n ...int64) error {
	for _, n := range n {
		if n < 0 {
			return ErrInvalid
		}
	}
	return nil
}
