package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// What decodes is valid, and re-encodes to the same bytes: a message has one form.
func FuzzUnmarshal(f *testing.F) {
	types := map[Type]bool{}
	for _, v := range vectors {
		f.Add(byte(v.msg.Type()), []byte(v.payload))
		types[v.msg.Type()] = true
	}
	if len(types) != len(declaredTypes(f)) {
		f.Fatalf("seeds for %d of %d types", len(types), len(declaredTypes(f)))
	}
	f.Fuzz(func(t *testing.T, frame byte, payload []byte) {
		m := ofType(Type(frame))
		if m == nil {
			return
		}
		if err := Unmarshal(payload, m); err != nil {
			if !errors.Is(err, ErrShort) && !errors.Is(err, ErrTrailing) && !errors.Is(err, ErrTooLong) && !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: an error of no kind: %v", name(m), err)
			}
			return
		}
		if err := m.Validate(); err != nil {
			t.Errorf("%s: unmarshalled but not valid: %v", name(m), err)
		}
		if again := Marshal(nil, m); !bytes.Equal(again, payload) {
			t.Errorf("%s: %x\nbecame %x", name(m), payload, again)
		}
		if len(payload) <= Type(frame).maxPayload() {
			if err := NewWriter(io.Discard).Write(m); err != nil {
				t.Errorf("%s: cannot be written: %v", name(m), err)
			}
		}
	})
}

// Any stream ends in an error, without more memory than its frames may take.
func FuzzReader(f *testing.F) {
	var all bytes.Buffer
	w := NewWriter(&all)
	w.WriteMagic()
	for _, v := range vectors {
		w.Write(v.msg)
	}
	if all.Len() < 1000 {
		f.Fatal("the seed is nearly empty")
	}
	f.Add(all.Bytes())
	f.Add([]byte("Last login: today\r\n" + all.String()))
	f.Add([]byte(Magic + "\x3c\x00\x00\x00\xff\xff\xff\xff"))
	f.Add([]byte(Magic + "\x01\x00\x00\x00\x00\x01\x00\x01" + strings.Repeat("x", 1<<16)))
	f.Add([]byte(Magic[:5]))
	f.Fuzz(func(t *testing.T, stream []byte) {
		frames := 0
		n := allocated(func() {
			r := NewReader(bytes.NewReader(stream))
			if _, err := r.SkipTo(Magic); err != nil {
				return
			}
			for {
				frame, err := r.Next()
				if err != nil {
					return
				}
				frames++
				if m := ofType(frame.Type); m != nil {
					frame.Decode(m)
				}
				frame.Release()
			}
		})
		if limit := uint64(4<<20 + 16*len(stream) + 512*frames); n > limit {
			t.Errorf("%d bytes allocated for a stream of %d", n, len(stream))
		}
	})
}
