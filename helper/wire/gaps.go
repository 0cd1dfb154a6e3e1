package wire

import (
	"encoding/binary"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// ReadErrors is what a client wants to come of places of a source that cannot be
// read.
type ReadErrors uint8

// The ways to go on after a read error.
const (
	ReadStop ReadErrors = 0 // not at all: it ends the request
	ReadZero ReadErrors = 1 // the places are zeros
	ReadSkip ReadErrors = 2 // the target keeps what it has there; Read gives zeros
)

func (r ReadErrors) validate() error {
	if r > ReadSkip {
		return ErrInvalid
	}
	return nil
}

// Gap is a range that could not be read.
type Gap struct{ Offset, Length int64 } // bytes

// End is the byte behind the gap.
func (g Gap) End() int64 { return g.Offset + g.Length }

// GapBytes is the length of all gaps together.
func GapBytes(gaps []Gap) (n int64) {
	for _, g := range gaps {
		n += g.Length
	}
	return n
}

const gapSize = 16 // bytes of an encoded gap

// Gaps names places of one extent, or of what one Read asked for, that could not be
// read. Without Keep they are zeros from here on. With Keep the receiver keeps what
// it has there, and both ends take them for zeros in all digests; the receiver
// answers with Blocks of the extent as it is then.
type Gaps struct {
	Keep bool
	List []Gap // ascending, not touching
}

func (*Gaps) Type() Type { return TypeGaps }

// Validate checks the order; where the gaps may lie is for who knows the range.
func (m *Gaps) Validate() error {
	if len(m.List) > block.MaxPerExtent {
		return ErrTooLong
	}
	if len(m.List) == 0 {
		return ErrInvalid
	}
	next := int64(0)
	for i, g := range m.List {
		if g.Offset < next || i > 0 && g.Offset == next || g.Length <= 0 || g.End() < 0 {
			return ErrInvalid
		}
		next = g.End()
	}
	return nil
}

func (m *Gaps) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(appendBool(b, m.Keep), uint16(len(m.List)))
	for _, g := range m.List {
		b = appendInt64(appendInt64(b, g.Offset), g.Length)
	}
	return b
}

// decode reuses the memory of List.
func (m *Gaps) decode(d *decoder) {
	m.Keep, m.List = d.bool(), m.List[:0]
	for range d.count(block.MaxPerExtent, gapSize) {
		m.List = append(m.List, Gap{d.int64(), d.int64()})
	}
}
