package wire

import (
	"encoding/binary"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// Root asks for the root of a range of what is open. Progress frames come
// meanwhile.
type Root struct {
	Offset, Length int64  // bytes
	BlockSize      uint32 // bytes
}

func (*Root) Type() Type        { return TypeRoot }
func (m *Root) Validate() error { return checkRange(m.Offset, m.Length, m.BlockSize) }
func (m *Root) append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(appendInt64(appendInt64(b, m.Offset), m.Length), m.BlockSize)
}
func (m *Root) decode(d *decoder) { m.Offset, m.Length, m.BlockSize = d.int64(), d.int64(), d.uint32() }

// Range is the range as the engine wants it.
func (m *Root) Range() block.Range {
	return block.Range{Offset: m.Offset, Length: m.Length, BlockSize: int(m.BlockSize)}
}

// Describe asks for all that is known of Path. Without Look it is not opened.
type Describe struct {
	path
	Look bool // open it for reading, to tell what is on it
}

func (*Describe) Type() Type               { return TypeDescribe }
func (m *Describe) append(b []byte) []byte { return appendBool(m.path.append(b), m.Look) }
func (m *Describe) decode(d *decoder) {
	m.path.decode(d)
	m.Look = d.bool()
}

// Property is one fact about an object. A key with several values occurs several
// times.
type Property struct{ Key, Value string }

// propertySize is the size in bytes of a property with empty strings.
const propertySize = 2 + 2

// Properties answers Describe with MaxDirectory at a time.
type Properties struct{ Properties []Property }

func (*Properties) Type() Type { return TypeProperties }

// Validate refuses a value without a key.
func (m *Properties) Validate() error {
	if len(m.Properties) > MaxDirectory {
		return ErrTooLong
	}
	for _, p := range m.Properties {
		if p.Key == "" {
			return ErrInvalid
		}
		if err := checkStrings(MaxName, p.Key, p.Value); err != nil {
			return err
		}
	}
	return nil
}

func (m *Properties) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Properties)))
	for _, p := range m.Properties {
		b = appendString(appendString(b, p.Key), p.Value)
	}
	return b
}

func (m *Properties) decode(d *decoder) {
	m.Properties = make([]Property, d.count(MaxDirectory, propertySize))
	for i := range m.Properties {
		m.Properties[i] = Property{d.string(MaxName), d.string(MaxName)}
	}
}

// Ping asks for so many bytes that cannot be compressed, as Data frames in order:
// with 0 it measures the round trip, with more the throughput.
type Ping struct{ Bytes int64 }

func (*Ping) Type() Type               { return TypePing }
func (m *Ping) Validate() error        { return checkSizes(m.Bytes) }
func (m *Ping) append(b []byte) []byte { return appendInt64(b, m.Bytes) }
func (m *Ping) decode(d *decoder)      { m.Bytes = d.int64() }
