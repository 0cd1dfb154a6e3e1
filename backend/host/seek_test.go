package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Anywhere and back, after nothing, a part or all of the range before was read.
func TestReader_Move(t *testing.T) {
	harness.Goroutines(t)
	want := edges.Contents()[1].Make(3*readWindow+777, 6)
	size := int64(len(want))
	s := opened(t, want)
	r := reader(t, s, 0, size)
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		off := random.Int64N(size)
		n := random.Int64N(size - off + 1)
		r.Move(off, n)
		if random.IntN(3) == 0 {
			r.Move(off, n)
		}
		read := min(n, []int64{0, 4096, 300 << 10, n}[random.IntN(4)])
		got := make([]byte, read)
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want[off:off+read]) {
			t.Fatalf("%d bytes at %d of a range of %d: %v", read, off, n, err)
		}
		if k, err := r.Read(make([]byte, 1)); read == n && (k != 0 || err != io.EOF) {
			t.Fatalf("after the end: %d, %v", k, err)
		}
	}
	r.Close()
	usable(t, s)
	r.Move(0, 1)
	if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("read after close")
	}
}

// next takes a frame that must be of the type wanted.
func next(r *wire.Reader, want wire.Type) (f wire.Frame, ok bool) {
	f, err := r.Next()
	return f, err == nil && f.Type == want
}

// The helper answers nothing until it has all that can be said in one round trip.
func TestReader_OneRoundTrip(t *testing.T) {
	harness.Goroutines(t)
	cancelled := wire.Errorf(wire.CodeCancelled, "cancelled")
	s := played(t, func(r *wire.Reader, w *wire.Writer, conn net.Conn) {
		write := func(m wire.Message) bool { return w.Write(m) == nil }
		wait := func(types ...wire.Type) bool {
			for _, want := range types {
				if _, ok := next(r, want); !ok {
					t.Errorf("did not get a frame of type %#02x", uint8(want))
					return false
				}
			}
			return true
		}
		ok := wait(wire.TypeOpen, wire.TypeRead) &&
			write(&wire.Opened{Path: "/disk", Size: 1 << 30, Entry: wire.Entry{Name: "disk", Kind: wire.KindFile, Size: 1 << 30}}) &&
			write(&wire.Done{}) && write(&wire.Data{Data: []byte("one")}) &&
			wait(wire.TypeCancel, wire.TypeRead) &&
			write(&wire.Data{Offset: 3, Data: []byte("stale")}) && write(cancelled) && write(&wire.Data{Offset: 1 << 20, Data: []byte("two")}) &&
			wait(wire.TypeCancel, wire.TypeClose) &&
			write(&wire.Data{Offset: 1<<20 + 3, Data: []byte("stale")}) && write(cancelled) && write(&wire.Done{})
		if ok {
			drain(r)
		}
	})
	r, err := s.OpenReader(t.Context(), "/disk", 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 3)
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "one" {
		t.Fatalf("%q, %v", got, err)
	}
	r.Move(1<<20, 1<<20)
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "two" {
		t.Fatalf("%q, %v", got, err)
	}
	if err := s.Close(t.Context(), false, 0); err != nil || !s.alive() {
		t.Errorf("the session is not fit for the pool: %v", err)
	}
	r.Close()
}

func TestSession_OpenReader(t *testing.T) {
	harness.Goroutines(t)
	data := edges.Contents()[1].Make(100_000, 7)
	path := imageFile(t, data)
	for name, test := range map[string]struct {
		path   string
		off, n int64
		want   wire.Code
	}{
		"missing": {path + ".no", 0, 10, wire.CodeNotFound},
		"beyond":  {path, 99_999, 2, wire.CodeSource},
	} {
		t.Run(name, func(t *testing.T) {
			s := here(t)
			if _, err := s.OpenReader(t.Context(), test.path, test.off, test.n); !errors.Is(err, test.want) {
				t.Errorf("got %v", err)
			}
			if err := s.Close(t.Context(), false, 0); err != nil {
				t.Error(err)
			}
			r, err := s.OpenReader(t.Context(), path, 5, 10)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[5:15]) {
				t.Errorf("the session is not usable: %v", err)
			}
			r.Close()
		})
	}
}

// A reader that goes on gets more and more at once, one that seeks about little.
func TestReader_WindowGrows(t *testing.T) {
	harness.Goroutines(t)
	s := opened(t, edges.Contents()[1].Make(3*readWindow, 8))
	r := reader(t, s, 0, 3*readWindow)
	if r.window != firstWindow {
		t.Errorf("starts with %d bytes", r.window)
	}
	if _, err := io.ReadFull(r, make([]byte, 2*readWindow)); err != nil || r.window != readWindow {
		t.Errorf("%d bytes after a long read, %v", r.window, err)
	}
	r.Move(0, 3*readWindow)
	if _, err := io.ReadFull(r, make([]byte, 4096)); err != nil || r.window != firstWindow {
		t.Errorf("%d bytes after a seek, %v", r.window, err)
	}
	r.Close()
	usable(t, s)
}

// A helper that hangs is given up when who reads leaves.
func TestSession_Close_hangs(t *testing.T) {
	harness.Goroutines(t)
	s := played(t, func(r *wire.Reader, w *wire.Writer, conn net.Conn) {
		_ = w.Write(&wire.Opened{Path: "/disk", Size: 100, Entry: wire.Entry{Name: "disk", Kind: wire.KindFile, Size: 100}})
		_ = w.Write(&wire.Done{})
		drain(r)
	})
	r, err := s.OpenReader(t.Context(), "/disk", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx, false, 0); !errors.Is(err, context.DeadlineExceeded) || s.alive() {
		t.Errorf("got %v, alive %v", err, s.alive())
	}
	s.drain = 50 * time.Millisecond
	r.Close()
}
