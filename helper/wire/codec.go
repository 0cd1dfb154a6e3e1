package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// Errors of the codec itself. They end the session: after one of them the
// stream cannot be trusted.
var (
	ErrShort    = errors.New("protocol error: message is shorter than its fields")
	ErrTrailing = errors.New("protocol error: bytes after the last field of a message")
	ErrTooLong  = errors.New("protocol error: a length is over its limit")
	ErrInvalid  = errors.New("protocol error: a field has no meaning")
)

// Message is the content of one frame.
type Message interface {
	// Type is the frame type of the message.
	Type() Type
	// Validate checks what the layout alone does not.
	Validate() error
	// append encodes the message behind b, without its bulk.
	append(b []byte) []byte
	// decode reads the fields. Byte slices alias the payload.
	decode(d *decoder)
}

// bulk is a message that ends in device content, which is written to the stream
// from where it lies.
type bulk interface {
	Message
	bulk() []byte
}

// Unmarshal decodes the payload of a frame into m and validates it. Byte slices
// of m alias the payload and are valid as long as it is.
func Unmarshal(payload []byte, m Message) error {
	d := decoders.Get().(*decoder)
	defer func() {
		*d = decoder{}
		decoders.Put(d)
	}()
	d.buf = payload
	m.decode(d)
	switch {
	case d.err != nil:
		return fmt.Errorf("%T: %w", m, d.err)
	case len(d.buf) != 0:
		return fmt.Errorf("%T: %w", m, ErrTrailing)
	}
	if err := m.Validate(); err != nil {
		return fmt.Errorf("%T: %w", m, err)
	}
	return nil
}

// decoders are reused, since there are several frames for each extent.
var decoders = sync.Pool{New: func() any { return new(decoder) }}

// Marshal encodes the payload of m with its bulk behind b.
func Marshal(b []byte, m Message) []byte {
	b = m.append(b)
	if m, ok := m.(bulk); ok {
		b = append(b, m.bulk()...)
	}
	return b
}

// decoder reads fields from a payload. The first error sticks and makes all
// later reads return zero values, so that fields are read without checks
// between them.
type decoder struct {
	buf []byte
	err error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.buf = nil
}

// take returns the next n bytes of the payload.
func (d *decoder) take(n int) []byte {
	if n > len(d.buf) {
		d.fail(ErrShort)
	}
	if d.err != nil {
		return nil
	}
	b := d.buf[:n:n]
	d.buf = d.buf[n:]
	return b
}

func (d *decoder) uint8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

// bool is one byte, 0 or 1: a message has one encoding only.
func (d *decoder) bool() bool {
	v := d.uint8()
	if v > 1 {
		d.fail(ErrInvalid)
	}
	return v == 1
}

func (d *decoder) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// int64 is a two's complement number; ranges are checked by Validate.
func (d *decoder) int64() int64 { return int64(d.uint64()) }

func (d *decoder) digest() (v block.Digest) {
	copy(v[:], d.take(len(v)))
	return v
}

// string is a 16-bit length and that many bytes, max at most. Any byte may
// occur: names of files are not text.
func (d *decoder) string(max int) string {
	n := int(d.uint16())
	if n > max {
		d.fail(ErrTooLong)
	}
	return string(d.take(n))
}

// count is a 16-bit number of elements, max at most, of at least size bytes
// each. It is the one place where a number from the stream decides how much is
// allocated: never more than the payload could fill.
func (d *decoder) count(max, size int) int {
	n := int(d.uint16())
	switch {
	case n > max:
		d.fail(ErrTooLong)
	case n*size > len(d.buf):
		d.fail(ErrShort)
	}
	if d.err != nil {
		return 0
	}
	return n
}

// strings are up to MaxDirectory names.
func (d *decoder) strings() []string {
	n := d.count(MaxDirectory, 2)
	if n == 0 {
		return nil
	}
	all := make([]string, n)
	for i := range all {
		all[i] = d.string(MaxName)
	}
	return all
}

// rest returns all bytes that are left.
func (d *decoder) rest() []byte { return d.take(len(d.buf)) }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func appendStrings(b []byte, all []string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(all)))
	for _, s := range all {
		b = appendString(b, s)
	}
	return b
}

// checkNames refuses too many of them, and empty or long ones.
func checkNames(all []string) error {
	if len(all) > MaxDirectory {
		return ErrTooLong
	}
	if slices.Contains(all, "") {
		return ErrInvalid
	}
	return checkStrings(MaxName, all...)
}

func appendInt64(b []byte, v int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) }
