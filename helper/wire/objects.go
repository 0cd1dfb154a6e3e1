package wire

import "encoding/binary"

// path is a request about one path: absolute, as the user gave it.
type path struct{ Path string }

func (m *path) Validate() error {
	if m.Path == "" {
		return ErrInvalid
	}
	return checkStrings(MaxPath, m.Path)
}
func (m *path) append(b []byte) []byte { return appendString(b, m.Path) }
func (m *path) decode(d *decoder)      { m.Path = d.string(MaxPath) }

// Stat asks for the one entry of Path.
type Stat struct{ path }

// List asks for the entries of the directory Path.
type List struct{ path }

// Mkdir makes the directory Path and its parents.
type Mkdir struct{ path }

// Rmdir removes the empty directory Path.
type Rmdir struct{ path }

// Remove removes the image file Path; devices are refused.
type Remove struct{ path }

// StatFS asks for the space of the filesystem that Path is on.
type StatFS struct{ path }

func (*Stat) Type() Type   { return TypeStat }
func (*List) Type() Type   { return TypeList }
func (*Mkdir) Type() Type  { return TypeMkdir }
func (*Rmdir) Type() Type  { return TypeRmdir }
func (*Remove) Type() Type { return TypeRemove }
func (*StatFS) Type() Type { return TypeStatFS }

// SetTime sets the modification time of the image file Path.
type SetTime struct {
	path
	ModTime int64 // nanoseconds since 1970
}

func (*SetTime) Type() Type               { return TypeSetTime }
func (m *SetTime) append(b []byte) []byte { return appendInt64(m.path.append(b), m.ModTime) }
func (m *SetTime) decode(d *decoder)      { m.path.decode(d); m.ModTime = d.int64() }

// Kind is what an entry is.
type Kind uint8

// The kinds of entries.
const (
	KindFile  Kind = 1
	KindBlock Kind = 2
	KindDir   Kind = 3
)

// Entry describes a block device, an image file or a directory.
type Entry struct {
	Name       string // last element of the path as given
	Kind       Kind
	ReadOnly   bool
	Rotational bool
	Size       int64  // bytes
	Allocated  int64  // bytes in use below a sparse file, -1 where unknown
	ModTime    int64  // nanoseconds since 1970; 0 for devices
	SectorSize uint32 // bytes of a logical sector; 0 for files
	ID         string // equal for two names of one object, within one boot of a host
}

// entrySize is the size in bytes of an entry with empty strings.
const entrySize = 2 + 3 + 3*8 + 4 + 2

func (e *Entry) validate() error {
	if e.Kind < KindFile || e.Kind > KindDir || e.Allocated < -1 {
		return ErrInvalid
	}
	if err := checkSizes(e.Size); err != nil {
		return err
	}
	return checkStrings(MaxName, e.Name, e.ID)
}

func (e *Entry) append(b []byte) []byte {
	b = append(appendString(b, e.Name), byte(e.Kind))
	b = appendBool(appendBool(b, e.ReadOnly), e.Rotational)
	b = appendInt64(appendInt64(appendInt64(b, e.Size), e.Allocated), e.ModTime)
	return appendString(binary.BigEndian.AppendUint32(b, e.SectorSize), e.ID)
}

func (e *Entry) decode(d *decoder) {
	e.Name, e.Kind = d.string(MaxName), Kind(d.uint8())
	e.ReadOnly, e.Rotational = d.bool(), d.bool()
	e.Size, e.Allocated, e.ModTime = d.int64(), d.int64(), d.int64()
	e.SectorSize, e.ID = d.uint32(), d.string(MaxName)
}

// Entries answers Stat with one entry and List with MaxDirectory at a time.
type Entries struct{ Entries []Entry }

func (*Entries) Type() Type { return TypeEntries }

func (m *Entries) Validate() error {
	if len(m.Entries) > MaxDirectory {
		return ErrTooLong
	}
	for i := range m.Entries {
		if err := m.Entries[i].validate(); err != nil {
			return err
		}
	}
	return nil
}

func (m *Entries) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Entries)))
	for i := range m.Entries {
		b = m.Entries[i].append(b)
	}
	return b
}

func (m *Entries) decode(d *decoder) {
	m.Entries = make([]Entry, d.count(MaxDirectory, entrySize))
	for i := range m.Entries {
		m.Entries[i].decode(d)
	}
}

// Usage answers StatFS, in bytes.
type Usage struct{ Total, Free, Available int64 }

func (*Usage) Type() Type        { return TypeUsage }
func (m *Usage) Validate() error { return checkSizes(m.Total, m.Free, m.Available) }
func (m *Usage) append(b []byte) []byte {
	return appendInt64(appendInt64(appendInt64(b, m.Total), m.Free), m.Available)
}
func (m *Usage) decode(d *decoder) { m.Total, m.Free, m.Available = d.int64(), d.int64(), d.int64() }
