package wire

import (
	"encoding/binary"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// Advance is the progress of the sender. Of every extent below Floor it has said
// what is to be said first: nothing when it is equal. Every extent below Settled is
// done with. The receiver may announce extents below Limit.
type Advance struct{ Settled, Floor, Limit int64 } // extents

func (*Advance) Type() Type { return TypeAdvance }
func (m *Advance) Validate() error {
	if m.Settled > m.Floor || m.Floor > m.Limit {
		return ErrInvalid
	}
	return checkSizes(m.Settled)
}
func (m *Advance) append(b []byte) []byte {
	return appendInt64(appendInt64(appendInt64(b, m.Settled), m.Floor), m.Limit)
}
func (m *Advance) decode(d *decoder) { m.Settled, m.Floor, m.Limit = d.int64(), d.int64(), d.int64() }

const digestSize = len(block.Digest{})

// Digests are extent digests of what the receiver holds, from extent First on.
type Digests struct {
	First int64
	Sums  []byte // of block.Digest size each, MaxBatch at most
}

// Add appends a digest.
func (m *Digests) Add(d block.Digest) { m.Sums = append(m.Sums, d[:]...) }

// Len is the number of digests.
func (m *Digests) Len() int { return len(m.Sums) / digestSize }

// At is the digest of extent First+i.
func (m *Digests) At(i int) block.Digest {
	return block.Digest(m.Sums[i*digestSize:][:digestSize])
}

func (*Digests) Type() Type { return TypeDigests }
func (m *Digests) Validate() error {
	if n := m.Len(); n == 0 || n > MaxBatch || len(m.Sums)%digestSize != 0 {
		return ErrInvalid
	}
	return checkSizes(m.First)
}
func (m *Digests) append(b []byte) []byte { return append(appendInt64(b, m.First), m.Sums...) }
func (m *Digests) decode(d *decoder)      { m.First, m.Sums = d.int64(), d.rest() }

// extent is a message that only names an extent.
type extent struct{ Extent int64 }

func (m *extent) Validate() error        { return checkSizes(m.Extent) }
func (m *extent) append(b []byte) []byte { return appendInt64(b, m.Extent) }
func (m *extent) decode(d *decoder)      { m.Extent = d.int64() }

// Want asks the receiver for the block digests of an extent.
type Want struct{ extent }

// Applied says that the patch of an extent was verified and written.
type Applied struct{ extent }

// Resend says that a patch does not lead to the digest it names, and that
// nothing of it was written: the whole extent is needed.
type Resend struct{ extent }

func (*Want) Type() Type    { return TypeWant }
func (*Applied) Type() Type { return TypeApplied }
func (*Resend) Type() Type  { return TypeResend }

// Blocks answers Want.
type Blocks struct {
	Extent int64
	Sums   []byte // truncated block digests, of block.ShortSize each
}

// Add appends a digest, truncated.
func (m *Blocks) Add(d block.Digest) { m.Sums = append(m.Sums, d[:block.ShortSize]...) }

// Len is the number of digests.
func (m *Blocks) Len() int { return len(m.Sums) / block.ShortSize }

func (*Blocks) Type() Type { return TypeBlocks }
func (m *Blocks) Validate() error {
	if n := m.Len(); n == 0 || n > block.MaxPerExtent || len(m.Sums)%block.ShortSize != 0 {
		return ErrInvalid
	}
	return checkSizes(m.Extent)
}
func (m *Blocks) append(b []byte) []byte { return append(appendInt64(b, m.Extent), m.Sums...) }
func (m *Blocks) decode(d *decoder)      { m.Extent, m.Sums = d.int64(), d.rest() }

// Run is a run of blocks of one extent that differ.
type Run struct {
	Zero         bool // the blocks become zero; otherwise their bytes are in Patch.Data
	First, Count uint16
}

const runSize = 5 // bytes of an encoded run

// patchEncoding is the offset in bytes of Encoding in a Patch.
const patchEncoding = 8 + digestSize

// PatchEncoding is the encoding of a Patch that is not decoded, for who only
// passes it on.
func (f *Frame) PatchEncoding() (Encoding, error) {
	if f.Type != TypePatch || len(f.Payload) <= patchEncoding {
		return 0, ErrInvalid
	}
	return Encoding(f.Payload[patchEncoding]), nil
}

// Patch turns an extent of the target into that of the source.
type Patch struct {
	Extent   int64
	Digest   block.Digest // extent digest of the source
	Encoding Encoding
	Runs     []Run  // ascending, not overlapping
	Data     []byte // encoded bytes of the runs that are not Zero, one behind the other
}

func (*Patch) Type() Type { return TypePatch }

// Validate checks the order of the runs; that they lie within the extent and
// match Data is for the receiver, who knows the range.
func (m *Patch) Validate() error {
	if m.Encoding > EncodingZstd || len(m.Data) > block.ExtentSize || len(m.Runs) > block.MaxPerExtent {
		return ErrInvalid
	}
	if m.Encoding == EncodingNone && len(m.Data) != 0 {
		return ErrInvalid
	}
	next := 0
	for _, r := range m.Runs {
		if int(r.First) < next || r.Count == 0 || int(r.First)+int(r.Count) > block.MaxPerExtent {
			return ErrInvalid
		}
		next = int(r.First) + int(r.Count)
	}
	return checkSizes(m.Extent)
}

func (m *Patch) append(b []byte) []byte {
	b = append(appendInt64(b, m.Extent), m.Digest[:]...)
	b = binary.BigEndian.AppendUint16(append(b, byte(m.Encoding)), uint16(len(m.Runs)))
	for _, r := range m.Runs {
		b = binary.BigEndian.AppendUint16(appendBool(b, r.Zero), r.First)
		b = binary.BigEndian.AppendUint16(b, r.Count)
	}
	return b
}

func (m *Patch) bulk() []byte { return m.Data }

// decode reuses the memory of Runs.
func (m *Patch) decode(d *decoder) {
	m.Extent, m.Digest, m.Encoding = d.int64(), d.digest(), Encoding(d.uint8())
	m.Runs = m.Runs[:0]
	for range d.count(block.MaxPerExtent, runSize) {
		m.Runs = append(m.Runs, Run{d.bool(), d.uint16(), d.uint16()})
	}
	m.Data = d.rest()
}

// Finish ends the range: all patches were applied. Root is over what the sender
// read.
type Finish struct{ Root block.Digest }

// Finished answers Finish when the range is durable. Root is over what the
// target now holds.
type Finished struct{ Root block.Digest }

func (*Finish) Type() Type               { return TypeFinish }
func (*Finish) Validate() error          { return nil }
func (m *Finish) append(b []byte) []byte { return append(b, m.Root[:]...) }
func (m *Finish) decode(d *decoder)      { m.Root = d.digest() }

func (*Finished) Type() Type               { return TypeFinished }
func (*Finished) Validate() error          { return nil }
func (m *Finished) append(b []byte) []byte { return append(b, m.Root[:]...) }
func (m *Finished) decode(d *decoder)      { m.Root = d.digest() }

// Summary answers Send and Receive: what this end did, in bytes of the range.
type Summary struct {
	Root    block.Digest
	Scanned int64 // read and hashed
	Holes   int64 // known to be zero without reading
	Equal   int64 // left alone
	Data    int64 // sent or written as data
	Zeroed  int64 // sent or made zero
}

func (*Summary) Type() Type { return TypeSummary }

func (m *Summary) counters() []*int64 {
	return []*int64{&m.Scanned, &m.Holes, &m.Equal, &m.Data, &m.Zeroed}
}

func (m *Summary) Validate() error {
	return checkSizes(m.Scanned, m.Holes, m.Equal, m.Data, m.Zeroed)
}

func (m *Summary) append(b []byte) []byte {
	b = append(b, m.Root[:]...)
	for _, n := range m.counters() {
		b = appendInt64(b, *n)
	}
	return b
}

func (m *Summary) decode(d *decoder) {
	m.Root = d.digest()
	for _, n := range m.counters() {
		*n = d.int64()
	}
}

// Add adds the counters of another range. Root is kept.
func (m *Summary) Add(o *Summary) {
	mine, other := m.counters(), o.counters()
	for i := range mine {
		*mine[i] += *other[i]
	}
}
