package wire

import (
	"encoding/binary"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// Claim joins the sessions that write one target together. It is random, and
// only who holds the target exclusively can be asked for it.
type Claim [16]byte

// Open opens an object for the requests that follow, up to Close.
type Open struct {
	path
	Write      bool
	Lead       bool  // the first session of a transfer: claims the target for the others
	IgnoreSize bool  // sync the common part when a size differs
	Force      bool  // write although somebody holds the device
	Size       int64 // bytes of the source, with Write
	Claim      Claim
	Expect     string   // the identity that the target must have; empty for any
	Pins       []string // identities that it had when it was written before, all of which it must have still
	Kind       Kind     // what it was when the client saw it: a file or a device; 0 when it did not
	Zero       Zeroing
	Direct     Direct
	ReadErrors ReadErrors // what Read and Send do; not with Write
	Verify     Verification
	Undo       string // directory on the host, for what is overwritten; empty for none
	Apply      Application
	Spool      string // directory on the host, with ApplyAtomic
	Transfer   Claim  // with ApplyAtomic, and maybe ApplyReflink or Undo: the same in all sessions of a transfer, also after a lost connection
}

func (*Open) Type() Type { return TypeOpen }

// Validate refuses what has no meaning without Write, and what only the first
// session can ask for: the others are bound to its target by the claim.
func (m *Open) Validate() error {
	claimed, expects := m.Claim != Claim{}, m.Expect != "" || len(m.Pins) > 0
	writes := m.Lead || m.IgnoreSize || m.Force || m.Size != 0 || claimed || expects || m.Kind != 0 || m.Zero != ZeroAuto ||
		m.Verify != VerifyOff || m.Undo != "" || m.Apply != ApplyDirect
	if !m.Write && writes || m.Write && m.ReadErrors != ReadStop {
		return ErrInvalid
	}
	if claimed && !m.Lead && expects || m.Kind > KindBlock || m.Undo != "" && m.Apply != ApplyDirect {
		return ErrInvalid
	}
	if err := m.Apply.validate(); err != nil {
		return err
	}
	named := m.Transfer != Claim{}
	if atomic := m.Apply == ApplyAtomic; atomic != (m.Spool != "") || atomic != named && m.Apply != ApplyReflink && m.Undo == "" {
		return ErrInvalid
	}
	if err := checkStrings(MaxPath, m.Spool); err != nil {
		return err
	}
	if err := m.Zero.validate(); err != nil {
		return err
	}
	if err := m.Direct.validate(); err != nil {
		return err
	}
	if err := m.ReadErrors.validate(); err != nil {
		return err
	}
	if err := m.Verify.validate(); err != nil {
		return err
	}
	if err := checkSizes(m.Size); err != nil {
		return err
	}
	if err := checkStrings(MaxPath, m.Undo); err != nil {
		return err
	}
	if err := checkStrings(MaxName, m.Expect); err != nil {
		return err
	}
	if err := checkNames(m.Pins); err != nil {
		return err
	}
	return m.path.Validate()
}

func (m *Open) append(b []byte) []byte {
	b = m.path.append(b)
	for _, v := range []bool{m.Write, m.Lead, m.IgnoreSize, m.Force} {
		b = appendBool(b, v)
	}
	b = append(appendInt64(b, m.Size), m.Claim[:]...)
	b = append(appendStrings(appendString(b, m.Expect), m.Pins), byte(m.Kind))
	b = appendString(append(b, byte(m.Zero), byte(m.Direct), byte(m.ReadErrors), byte(m.Verify)), m.Undo)
	b = appendString(append(b, byte(m.Apply)), m.Spool)
	return append(b, m.Transfer[:]...)
}

func (m *Open) decode(d *decoder) {
	m.path.decode(d)
	m.Write, m.Lead, m.IgnoreSize, m.Force = d.bool(), d.bool(), d.bool(), d.bool()
	m.Size = d.int64()
	copy(m.Claim[:], d.take(len(m.Claim)))
	m.Expect, m.Pins, m.Kind = d.string(MaxName), d.strings(), Kind(d.uint8())
	m.Zero, m.Direct, m.ReadErrors, m.Verify = Zeroing(d.uint8()), Direct(d.uint8()), ReadErrors(d.uint8()), Verification(d.uint8())
	m.Undo, m.Apply, m.Spool = d.string(MaxPath), Application(d.uint8()), d.string(MaxPath)
	copy(m.Transfer[:], d.take(len(m.Transfer)))
}

// Opened answers Open.
type Opened struct {
	Path   string // what is open: for a new image file the name it has until Close
	Size   int64  // bytes to read, or to write
	Shared bool   // other sessions can write it under the claim
	Entry  Entry

	// Of a device that the first session of a transfer has opened for writing:
	IDs     []string // identities, key=value, the lasting ones first
	Lasting int64    // how many of them a copy does not change
	Content []string // what is on it, for people
}

func (*Opened) Type() Type { return TypeOpened }

func (m *Opened) Validate() error {
	if err := checkStrings(MaxPath, m.Path); err != nil {
		return err
	}
	if err := checkSizes(m.Size); err != nil {
		return err
	}
	if m.Lasting < 0 || m.Lasting > int64(len(m.IDs)) {
		return ErrInvalid
	}
	for _, names := range [][]string{m.IDs, m.Content} {
		if err := checkNames(names); err != nil {
			return err
		}
	}
	return m.Entry.validate()
}

func (m *Opened) append(b []byte) []byte {
	b = m.Entry.append(appendBool(appendInt64(appendString(b, m.Path), m.Size), m.Shared))
	return appendStrings(appendInt64(appendStrings(b, m.IDs), m.Lasting), m.Content)
}

func (m *Opened) decode(d *decoder) {
	m.Path, m.Size, m.Shared = d.string(MaxPath), d.int64(), d.bool()
	m.Entry.decode(d)
	m.IDs, m.Lasting, m.Content = d.strings(), d.int64(), d.strings()
}

// Close ends what Open began. With Commit the target is complete: it gets its
// time and its name, and is durable when Done comes.
type Close struct {
	Commit  bool
	Reread  bool  // with Commit: the kernel is to read the partition table of the disk again
	ModTime int64 // nanoseconds since 1970, for image files
}

func (*Close) Type() Type { return TypeClose }

// Validate refuses to read a table again that is not known to be complete.
func (m *Close) Validate() error {
	if m.Reread && !m.Commit {
		return ErrInvalid
	}
	return nil
}

func (m *Close) append(b []byte) []byte {
	return appendInt64(appendBool(appendBool(b, m.Commit), m.Reread), m.ModTime)
}
func (m *Close) decode(d *decoder) { m.Commit, m.Reread, m.ModTime = d.bool(), d.bool(), d.int64() }

// Read asks for bytes of what is open. They come as Data and Hole frames in
// order. Window bytes of Data, decoded, may be on their way before a Window frame
// asks for more.
type Read struct {
	Offset, Length, Window int64 // bytes
	Compress               Compression
}

func (*Read) Type() Type { return TypeRead }
func (m *Read) Validate() error {
	if m.Window <= 0 || m.Offset+m.Length < 0 || m.Compress.validate() != nil {
		return ErrInvalid
	}
	return checkSizes(m.Offset, m.Length)
}
func (m *Read) append(b []byte) []byte {
	return append(appendInt64(appendInt64(appendInt64(b, m.Offset), m.Length), m.Window), byte(m.Compress))
}
func (m *Read) decode(d *decoder) {
	m.Offset, m.Length, m.Window, m.Compress = d.int64(), d.int64(), d.int64(), Compression(d.uint8())
}

// Data is a part of what Read asked for.
type Data struct {
	Offset   int64 // bytes
	Encoding Encoding
	Data     []byte // encoded; at most an extent when decoded
}

func (*Data) Type() Type { return TypeData }
func (m *Data) Validate() error {
	if len(m.Data) == 0 || len(m.Data) > block.ExtentSize || m.Encoding == EncodingNone || m.Encoding > EncodingZstd {
		return ErrInvalid
	}
	return checkSizes(m.Offset)
}
func (m *Data) append(b []byte) []byte { return append(appendInt64(b, m.Offset), byte(m.Encoding)) }
func (m *Data) bulk() []byte           { return m.Data }
func (m *Data) decode(d *decoder) {
	m.Offset, m.Encoding, m.Data = d.int64(), Encoding(d.uint8()), d.rest()
}

// Hole is a part of what Read asked for: bytes that are zero.
type Hole struct{ Offset, Length int64 } // bytes

func (*Hole) Type() Type { return TypeHole }
func (m *Hole) Validate() error {
	if m.Length <= 0 || m.Offset+m.Length < 0 {
		return ErrInvalid
	}
	return checkSizes(m.Offset)
}
func (m *Hole) append(b []byte) []byte { return appendInt64(appendInt64(b, m.Offset), m.Length) }
func (m *Hole) decode(d *decoder)      { m.Offset, m.Length = d.int64(), d.int64() }

// Window allows Bytes more of Data during Read.
type Window struct{ Bytes int64 }

func (*Window) Type() Type               { return TypeWindow }
func (m *Window) Validate() error        { return checkSizes(m.Bytes) }
func (m *Window) append(b []byte) []byte { return appendInt64(b, m.Bytes) }
func (m *Window) decode(d *decoder)      { m.Bytes = d.int64() }

// Hash asks for the SHA-256 of all of what is open. Progress frames come
// meanwhile.
type Hash struct{ empty }

func (*Hash) Type() Type { return TypeHash }

// Sum answers Hash and Root.
type Sum struct{ Digest block.Digest }

func (*Sum) Type() Type               { return TypeSum }
func (*Sum) Validate() error          { return nil }
func (m *Sum) append(b []byte) []byte { return append(b, m.Digest[:]...) }
func (m *Sum) decode(d *decoder)      { m.Digest = d.digest() }

// span is the range that Send and Receive work on.
type span struct {
	Offset, Length int64  // bytes
	BlockSize      uint32 // bytes
	Window         int64  // extents whose digests may come before the first Advance
	Compare        bool   // patches come without their bytes, and nothing is written
	Share          uint8  // sessions that share the processors of the host in this, 0 when none is known of
}

func (m *span) Validate() error {
	if m.Window <= 0 || m.Window > MaxWindow {
		return ErrInvalid
	}
	return checkRange(m.Offset, m.Length, m.BlockSize)
}

// checkRange refuses what is no range of blocks.
func checkRange(off, n int64, blockSize uint32) error {
	if off+n < 0 || off%block.MinSize != 0 || block.CheckSize(int(min(blockSize, block.MaxSize+1))) != nil {
		return ErrInvalid
	}
	return checkSizes(off, n)
}

func (m *span) append(b []byte) []byte {
	b = appendInt64(appendInt64(b, m.Offset), m.Length)
	b = appendInt64(binary.BigEndian.AppendUint32(b, m.BlockSize), m.Window)
	return append(appendBool(b, m.Compare), m.Share)
}

func (m *span) decode(d *decoder) {
	m.Offset, m.Length = d.int64(), d.int64()
	m.BlockSize, m.Window, m.Compare, m.Share = d.uint32(), d.int64(), d.bool(), d.uint8()
}

// Range is the range as the engine wants it.
func (m *span) Range() block.Range {
	return block.Range{Offset: m.Offset, Length: m.Length, BlockSize: int(m.BlockSize)}
}

// Send makes the helper the sender of a range of what is open.
type Send struct {
	span
	Compress Compression
}

// Validate refuses what is no range, and unknown ways to compress.
func (m *Send) Validate() error {
	if err := m.Compress.validate(); err != nil {
		return err
	}
	return m.span.Validate()
}

func (m *Send) append(b []byte) []byte { return append(m.span.append(b), byte(m.Compress)) }

func (m *Send) decode(d *decoder) {
	m.span.decode(d)
	m.Compress = Compression(d.uint8())
}

// Receive makes the helper the receiver of a range of what is open: for writing,
// or to compare, for reading.
type Receive struct{ span }

func (*Send) Type() Type    { return TypeSend }
func (*Receive) Type() Type { return TypeReceive }

// NewSend and NewReceive ask for the two ends of one range; window is in extents.
func NewSend(r block.Range, window int64) *Send {
	return &Send{span: span{Offset: r.Offset, Length: r.Length, BlockSize: uint32(r.BlockSize), Window: window}}
}

// NewReceive is the other end of NewSend.
func NewReceive(r block.Range, window int64) *Receive {
	return &Receive{span{Offset: r.Offset, Length: r.Length, BlockSize: uint32(r.BlockSize), Window: window}}
}
