package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/iotest"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// opened gives a session on which a file with that content is open to read.
func opened(t *testing.T, data []byte) *Session {
	t.Helper()
	s := here(t)
	if _, err := s.OpenRead(t.Context(), imageFile(t, data)); err != nil {
		t.Fatal(err)
	}
	return s
}

func reader(t *testing.T, s *Session, off, n int64) *Reader {
	t.Helper()
	r, err := s.Read(t.Context(), off, n)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReader_Read(t *testing.T) {
	harness.Goroutines(t)
	for _, size := range edges.Sizes() {
		for _, content := range edges.Contents() {
			want := content.Make(size, 1)
			s := opened(t, want)
			if size <= 2*edges.Block { // it reads byte by byte
				r := reader(t, s, 0, int64(size))
				if err := iotest.TestReader(struct{ io.Reader }{r}, want); err != nil {
					t.Errorf("%d %s: %v", size, content.Name, err)
				}
				r.Close()
			}
			for _, part := range [][2]int{{0, size}, {size / 3, size / 2}, {size, 0}, {max(size-1, 0), min(size, 1)}} {
				r := reader(t, s, int64(part[0]), int64(part[1]))
				got, err := io.ReadAll(iotest.HalfReader(r))
				if err != nil || !bytes.Equal(got, want[part[0]:part[0]+part[1]]) {
					t.Errorf("%d %s: bytes %d+%d differ, %v", size, content.Name, part[0], part[1], err)
				}
				r.Close()
			}
			usable(t, s)
		}
	}
}

// An image of several windows can only be read when the window is opened again.
func TestReader_Window(t *testing.T) {
	harness.Goroutines(t)
	want := edges.Contents()[1].Make(3*readWindow+12345, 2)
	s := opened(t, want)
	r := reader(t, s, 0, int64(len(want)))
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("content differs, %v", err)
	}
	r.Close()
	usable(t, s)
}

// What is not read does not come: a reader that waits holds a window of bytes.
func TestReader_HoldsBack(t *testing.T) {
	granted := make(chan int64, 100)
	s := played(t, func(r *wire.Reader, w *wire.Writer, conn net.Conn) {
		f, err := r.Next()
		var m wire.Read
		if err != nil || f.Decode(&m) != nil {
			return
		}
		granted <- m.Window
		go func() {
			for {
				f, err := r.Next()
				var m wire.Window
				if err != nil || f.Decode(&m) != nil {
					close(granted)
					return
				}
				granted <- m.Bytes
			}
		}()
		for off := int64(0); off < 4*readWindow; off += edges.Extent {
			if w.Write(&wire.Data{Offset: off, Data: make([]byte, edges.Extent)}) != nil {
				return
			}
		}
	})
	r := reader(t, s, 0, 4*readWindow)
	total, read := int64(0), int64(0)
	buf := make([]byte, edges.Extent)
	for range 2 * readWindow / edges.Extent {
		n, err := io.ReadFull(r, buf)
		if err != nil {
			t.Fatal(err)
		}
		read += int64(n)
	}
	time.Sleep(50 * time.Millisecond)
	for len(granted) > 0 {
		total += <-granted
	}
	if total > read+readWindow || total < read {
		t.Errorf("%d bytes granted when %d were read", total, read)
	}
	s.close()
	for range granted {
	}
}

func TestReader_Close(t *testing.T) {
	harness.Goroutines(t)
	want := edges.Contents()[1].Make(2*readWindow, 3)
	s := opened(t, want)
	for _, n := range []int{0, 1, 4096, 1 << 20, readWindow - 1, readWindow + 1} {
		r := reader(t, s, 0, int64(len(want)))
		if got := make([]byte, n); n > 0 {
			if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want[:n]) {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
		r.Close()
		r.Close()
		if k, err := r.Read(make([]byte, 1)); k != 0 || err == nil {
			t.Errorf("read after close: %d, %v", k, err)
		}
		usable(t, s)
	}
	if err := s.Close(t.Context(), false, 0); err != nil || !s.alive() {
		t.Errorf("session is not fit for the pool: %v", err)
	}
}

func TestReader_Cancel(t *testing.T) {
	harness.Goroutines(t)
	s := opened(t, edges.Contents()[1].Make(2*readWindow, 4))
	ctx, cancel := context.WithCancelCause(t.Context())
	r, err := s.Read(ctx, 0, 2*readWindow)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	cancel(enough)
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	r.Close()
	usable(t, s)
}

// The image is cut while it is read: never a short success.
func TestReader_Cut(t *testing.T) {
	harness.Goroutines(t)
	path := imageFile(t, edges.Contents()[1].Make(3*readWindow, 5))
	s := here(t)
	if _, err := s.OpenRead(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	r := reader(t, s, 0, 3*readWindow)
	if _, err := io.ReadFull(r, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 2*readWindow); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, wire.CodeIO) {
		t.Errorf("got %v", err)
	}
	r.Close()
	usable(t, s)
}

func TestReader_Hostile(t *testing.T) {
	harness.Goroutines(t)
	data := func(off int64, n int) wire.Message { return &wire.Data{Offset: off, Data: make([]byte, n)} }
	for name, frames := range map[string][]wire.Message{
		"nothing":        {&wire.Done{}},
		"too little":     {data(0, 50), &wire.Done{}},
		"too much":       {data(0, 101)},
		"more":           {data(0, 100), data(100, 1)},
		"gap":            {data(0, 50), data(51, 49)},
		"again":          {data(0, 50), data(0, 50)},
		"long hole":      {&wire.Hole{Length: 101}},
		"endless hole":   {&wire.Hole{Offset: 0, Length: 1 << 62}},
		"hole elsewhere": {&wire.Hole{Offset: 1, Length: 10}},
		"wrong frame":    {&wire.Sum{}},
		"empty data":     {&wire.Data{Encoding: wire.EncodingS2, Data: []byte{0}}, data(0, 100), &wire.Done{}},
		"lost":           {data(0, 50)},
	} {
		t.Run(name, func(t *testing.T) {
			s := played(t, func(r *wire.Reader, w *wire.Writer, conn net.Conn) {
				_, _ = r.Next()
				for _, m := range frames {
					if w.Write(m) != nil {
						return
					}
				}
				if name != "lost" {
					drain(r)
				}
			})
			r := reader(t, s, 0, 100)
			if got, err := io.ReadAll(r); err == nil {
				t.Errorf("%d bytes without an error", len(got))
			}
			r.Close()
		})
	}
}
