package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReader_Next(t *testing.T) {
	stream := "\x04\x00\x00\x00\x00\x00\x00\x0d" + "\x00\x08" + int1M + "\x00\x01x" + // Error
		"\x03\x00\x00\x00\x00\x00\x00\x00" + // Done
		"\xff\x00\x00\x00\x00\x00\x00\x02hi" + // a type that nobody knows
		"\x30\x00\x00\x00\x00\x02\x00\x08" + int2 + strings.Repeat("d", 2<<16) // Data
	for name, r := range map[string]io.Reader{
		"whole": strings.NewReader(stream), "halves": iotest.HalfReader(strings.NewReader(stream)),
		"bytes": iotest.OneByteReader(strings.NewReader(stream)), "with the end": iotest.DataErrReader(strings.NewReader(stream)),
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(r)
			for _, want := range []struct {
				t Type
				n int
			}{{TypeError, 13}, {TypeDone, 0}, {0xff, 2}, {TypeData, 2<<16 + 8}} {
				f, err := r.Next()
				if err != nil || f.Type != want.t || len(f.Payload) != want.n {
					t.Fatalf("type %#x with %d bytes, %v, not %+v", f.Type, len(f.Payload), err, want)
				}
				f.Release()
				f.Release()
			}
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("at the end: %v", err)
			}
		})
	}
}

func TestReader_NextCutShort(t *testing.T) {
	frame := "\x06\x00\x00\x00\x00\x00\x00\x08" + int2
	for n := range 2 * len(frame) {
		r := NewReader(strings.NewReader((frame + frame)[:n]))
		want := io.ErrUnexpectedEOF
		if n%len(frame) == 0 {
			want = io.EOF
		}
		var err error
		for err == nil {
			var f Frame
			f, err = r.Next()
			f.Release()
		}
		if err != want {
			t.Errorf("%d bytes: %v, not %v", n, err, want)
		}
	}
}

// errRead comes from a reader that should not have been read any more.
var errRead = errors.New("read behind the header")

func TestReader_NextErrTooLong(t *testing.T) {
	const small, large = MaxControl, MaxBulk
	for _, tt := range []struct {
		t   Type
		max int
	}{
		{TypeHello, small}, {TypeStat, small}, {TypeReceive, small}, {TypeEntries, small}, {TypeDigests, small},
		{TypeBlocks, small}, {0x7f, small}, {0x80, small}, {0xff, small}, {TypePatch, large}, {TypeData, large},
	} {
		for _, n := range []uint32{uint32(tt.max), uint32(tt.max + 1), 1 << 24, 1 << 31, 1<<32 - 1} {
			want := errRead
			if n > uint32(tt.max) {
				want = ErrTooLong
			}
			head := []byte{byte(tt.t), 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
			_, err := NewReader(io.MultiReader(bytes.NewReader(head), iotest.ErrReader(errRead))).Next()
			if !errors.Is(err, want) {
				t.Errorf("type %#x with %d bytes: %v, not %v", tt.t, n, err, want)
			}
		}
	}
}

// allocated returns how many bytes fn allocates.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestReader_NextAllocatesNothingForALength(t *testing.T) {
	r := NewReader(strings.NewReader(strings.Repeat("\x3c\x00\x00\x00\x00\x11\x00\x01", 100)))
	if n := allocated(func() {
		for range 100 {
			r.Next()
		}
	}); n > 100<<10 {
		t.Errorf("%d bytes for 100 headers that were refused", n)
	}
}

// A frame that waits holds about as much memory as it needs.
func TestReader_NextMemory(t *testing.T) {
	for n, want := range map[int]int{8: payloads[0], payloads[0]: payloads[0], payloads[0] + 1: MaxControl, MaxControl: MaxControl, MaxControl + 1: MaxBulk, MaxBulk: MaxBulk} {
		var head [HeaderSize]byte
		head[0] = byte(TypeData)
		binary.BigEndian.PutUint32(head[4:], uint32(n))
		f, err := NewReader(io.MultiReader(bytes.NewReader(head[:]), bytes.NewReader(make([]byte, n)))).Next()
		if err != nil || len(f.Payload) != n || cap(f.Payload) != want {
			t.Errorf("%d bytes in a buffer of %d, %v; want %d in %d", len(f.Payload), cap(f.Payload), err, n, want)
		}
		f.Release()
	}
}

func TestReader_NextErrReserved(t *testing.T) {
	for i := 1; i <= 3; i++ {
		for bit := range 8 {
			head := []byte{byte(TypeDone), 0, 0, 0, 0, 0, 0, 0}
			head[i] = 1 << bit
			if _, err := NewReader(bytes.NewReader(head)).Next(); !errors.Is(err, ErrInvalid) {
				t.Errorf("%x: %v", head, err)
			}
		}
	}
}

func TestFrame_DecodeErrType(t *testing.T) {
	f := Frame{Type: TypeApplied, Payload: []byte(int2)}
	if err := f.Decode(&Applied{}); err != nil {
		t.Error(err)
	}
	if err := f.Decode(&Resend{}); err == nil {
		t.Error("an Applied frame was decoded as Resend")
	}
}

func TestReader_SkipTo(t *testing.T) {
	banner := "Welcome to host\r\n\x00\x00\xff"
	for _, tt := range []struct {
		name, before string
		want         error
	}{
		{"nothing", "", nil},
		{"a banner", banner, nil},
		{"parts of the magic", Magic[:7] + Magic[:3] + Magic[:1] + Magic[:7], nil},
		{"most that is allowed", strings.Repeat("x", MaxPreamble), nil},
		{"a byte too many", strings.Repeat("x", MaxPreamble+1), ErrTooLong},
		{"far too much", strings.Repeat("\x00\xff", MaxPreamble), ErrTooLong},
	} {
		for split, slow := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "split": iotest.OneByteReader,
		} {
			t.Run(tt.name+"/"+split, func(t *testing.T) {
				r := NewReader(slow(strings.NewReader(tt.before + Magic + "\x03\x00\x00\x00\x00\x00\x00\x00")))
				skipped, err := r.SkipTo(Magic)
				if !errors.Is(err, tt.want) {
					t.Fatalf("%v, not %v", err, tt.want)
				}
				if err != nil {
					if !strings.HasPrefix(tt.before+Magic, string(skipped)) || len(skipped) > MaxPreamble+len(Magic) {
						t.Errorf("%d bytes skipped", len(skipped))
					}
					return
				}
				if string(skipped) != tt.before {
					t.Errorf("skipped %d bytes, not %d", len(skipped), len(tt.before))
				}
				if f, err := r.Next(); err != nil || f.Type != TypeDone {
					t.Errorf("then came %#x, %v", f.Type, err)
				}
			})
		}
	}
	t.Run("no magic", func(t *testing.T) {
		skipped, err := NewReader(strings.NewReader(banner + Magic[:7])).SkipTo(Magic)
		if err != io.EOF || string(skipped) != banner+Magic[:7] {
			t.Errorf("%q, %v", skipped, err)
		}
	})
}

// endless repeats its bytes for ever.
type endless struct {
	b  []byte
	at int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.b[e.at:])
	e.at = (e.at + n) % len(e.b)
	return n, nil
}

func TestReader_NextAllocations(t *testing.T) {
	for _, m := range []Message{&Applied{extent{7}}, &Patch{Runs: []Run{{Count: 1}}, Data: make([]byte, 4096)}, &Data{Data: make([]byte, 1<<20)}} {
		var stream bytes.Buffer
		if err := NewWriter(&stream).Write(m); err != nil {
			t.Fatal(err)
		}
		r, into := NewReader(&endless{b: stream.Bytes()}), like(m)
		if n := testing.AllocsPerRun(100, func() {
			f, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			f.Release()
		}); n != 0 {
			t.Errorf("%s: %v allocations to read a frame", name(m), n)
		}
		if n := testing.AllocsPerRun(100, func() {
			f, _ := r.Next()
			if err := f.Decode(into); err != nil {
				t.Fatal(err)
			}
			f.Release()
		}); n > 1 { // the decoder
			t.Errorf("%s: %v allocations to read and decode a frame", name(m), n)
		}
	}
}

func BenchmarkReader_Next(b *testing.B) {
	for _, m := range []Message{&Applied{extent{7}}, &Patch{Runs: []Run{{Count: 1}}, Data: make([]byte, 4096)}, &Data{Data: make([]byte, 1<<20)}} {
		b.Run(name(m), func(b *testing.B) {
			var stream bytes.Buffer
			if err := NewWriter(&stream).Write(m); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(stream.Len()))
			b.ReportAllocs()
			r, into := NewReader(&endless{b: stream.Bytes()}), like(m)
			for b.Loop() {
				f, _ := r.Next()
				f.Decode(into)
				f.Release()
			}
		})
	}
}
