package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

func TestWriter_Write(t *testing.T) {
	var stream bytes.Buffer
	w := NewWriter(&stream)
	if err := w.WriteMagic(); err != nil {
		t.Fatal(err)
	}
	want := []byte(Magic)
	for _, v := range vectors {
		if err := w.Write(v.msg); err != nil {
			t.Fatal(err)
		}
		want = append(want, byte(v.msg.Type()), 0, 0, 0)
		want = binary.BigEndian.AppendUint32(want, uint32(len(v.payload)))
		want = append(want, v.payload...)
	}
	if !bytes.Equal(stream.Bytes(), want) {
		t.Error("the stream is not magic, then header and payload of each message")
	}
	if n := int(w.Written()); n != len(want)-len(Magic) {
		t.Errorf("Written says %d of %d", n, len(want)-len(Magic))
	}
}

func TestWriter_WriteRefusesInvalid(t *testing.T) {
	var stream bytes.Buffer
	w := NewWriter(&stream)
	for range 3 {
		if err := w.Write(&Error{Text: "no code"}); !errors.Is(err, ErrInvalid) {
			t.Fatalf("an invalid message: %v", err)
		}
		if err := w.Write(&Window{2}); err != nil {
			t.Fatalf("after an invalid message: %v", err)
		}
	}
	if want := bytes.Repeat([]byte("\x32\x00\x00\x00\x00\x00\x00\x08"+int2), 3); !bytes.Equal(stream.Bytes(), want) {
		t.Errorf("the stream is %x", stream.Bytes())
	}
}

// failing takes n bytes, then fails.
type failing struct {
	n   int
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	n := min(len(p), f.n)
	f.n -= n
	if n < len(p) {
		return n, f.err
	}
	return n, nil
}

func TestWriter_WriteErrSticks(t *testing.T) {
	first := errors.New("gone")
	f := &failing{n: 20, err: first}
	w := NewWriter(f)
	if err := w.Write(&Done{}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := w.Write(&Window{2}); !errors.Is(err, first) {
			t.Errorf("write %d: %v", i, err)
		}
		f.n, f.err = 1<<20, errors.New("later")
	}
	if err := w.Forward(Frame{Type: TypeDone}); !errors.Is(err, first) {
		t.Errorf("Forward: %v", err)
	}
	if err := w.WriteMagic(); !errors.Is(err, first) {
		t.Errorf("WriteMagic: %v", err)
	}
	if f.n != 1<<20 {
		t.Error("wrote to a broken stream")
	}
}

func TestWriter_Forward(t *testing.T) {
	var from, to bytes.Buffer
	w := NewWriter(&from)
	for _, v := range vectors {
		if err := w.Write(v.msg); err != nil {
			t.Fatal(err)
		}
	}
	want := bytes.Clone(from.Bytes())
	r, w := NewReader(&from), NewWriter(&to)
	for range vectors {
		f, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Forward(f); err != nil {
			t.Fatal(err)
		}
		f.Release()
	}
	if err := w.Flush(); err != nil || !bytes.Equal(to.Bytes(), want) {
		t.Errorf("the forwarded stream differs; %v", err)
	}
}

// What is queued is sent in its order, with the next Write or Flush, or when it gets much.
func TestWriter_Queue(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out)
	sent := func(want int) {
		t.Helper()
		if got := out.Len(); got != want {
			t.Errorf("%d bytes were sent, want %d", got, want)
		}
	}
	const size = HeaderSize + 8 // of a Window
	for i := range int64(2) {
		if err := w.Queue(&Window{i + 1}); err != nil {
			t.Fatal(err)
		}
	}
	sent(0)
	if err := w.Write(&Window{3}); err != nil {
		t.Fatal(err)
	}
	sent(3 * size)
	if err := w.Queue(&Window{4}); err != nil {
		t.Fatal(err)
	}
	sent(3 * size)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	sent(4 * size)
	for i := int64(5); i < 5000; i++ {
		if err := w.Queue(&Window{i}); err != nil {
			t.Fatal(err)
		}
	}
	if queued := 4999*size - out.Len(); queued > 64<<10 {
		t.Errorf("%d bytes are queued", queued)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r := NewReader(&out)
	for i := int64(1); i < 5000; i++ {
		var m Window
		f, err := r.Next()
		if err == nil {
			err = f.Decode(&m)
			f.Release()
		}
		if err != nil || m.Bytes != i {
			t.Fatalf("frame %d: %+v, %v", i, m, err)
		}
	}
	if got := w.Written(); got != 4999*size {
		t.Errorf("%d bytes counted, want %d", got, 4999*size)
	}
}

func TestWriter_WriteFromManyGoroutines(t *testing.T) {
	pr, pw := io.Pipe()
	w := NewWriter(pw)
	const writers, each = 8, 50
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			data := bytes.Repeat([]byte{byte(i)}, 1+i*37<<9)
			for n := range each {
				if err := w.Write(&Data{Offset: int64(i)<<32 | int64(n), Data: data}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { wg.Wait(); pw.Close() }()
	var next [writers]int
	r := NewReader(pr)
	for range writers * each {
		f, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		var m Data
		if err := f.Decode(&m); err != nil {
			t.Fatal(err)
		}
		i := m.Offset >> 32
		if n := int(uint32(m.Offset)); n != next[i] || len(m.Data) != 1+int(i)*37<<9 || bytes.Count(m.Data, []byte{byte(i)}) != len(m.Data) {
			t.Fatalf("frame %d of writer %d is torn", n, i)
		}
		next[i]++
		f.Release()
	}
	if _, err := r.Next(); err != io.EOF {
		t.Error(err)
	}
}

func TestWriter_WriteAllocations(t *testing.T) {
	w := NewWriter(io.Discard)
	digests := &Digests{Sums: make([]byte, 8*32)}
	blocks := &Blocks{Sums: make([]byte, block.MaxPerExtent*4)}
	patch := &Patch{Runs: make([]Run, 0, 8), Data: make([]byte, 1<<20)}
	for i := range 8 {
		patch.Runs = append(patch.Runs, Run{First: uint16(2 * i), Count: 1})
	}
	for _, m := range []Message{digests, blocks, patch, &Want{extent{2}}, &Advance{0, 1, 2}, &Data{Data: make([]byte, 1<<18)}} {
		if n := testing.AllocsPerRun(100, func() {
			if err := w.Write(m); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations to write a frame", name(m), n)
		}
	}
}
