package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openPaced is the output of a stream, and the end to read it from.
func openPaced(t *testing.T) (*pacedPipe, *os.File) {
	t.Helper()
	in, _ := pipe(t)
	r, out := pipe(t)
	s, err := openStream(in, out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.out.(*pacedPipe), r
}

// A full pipe is left alone for as long as half of it lasts, and is full again after each pause.
func TestPacedPipe(t *testing.T) {
	p, r := openPaced(t)
	data := make([]byte, 4*outputPipe)
	_, _ = rand.Read(data)
	var got bytes.Buffer
	pauses := 0
	p.pause = longestPause
	p.sleep = func(d time.Duration) {
		pauses++
		waiting := 0
		if err := control(r, func(fd int) (err error) {
			waiting, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
			return err
		}); err != nil || waiting != outputPipe {
			t.Errorf("a pause with %d bytes in a pipe of %d, %v", waiting, outputPipe, err)
		}
		time.Sleep(d)
		if _, err := io.CopyN(&got, r, outputPipe/2); err != nil {
			t.Error(err)
		}
	}
	if err := p.f.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil { // nobody else reads
		t.Fatal(err)
	}
	if n, err := p.Write(data); err != nil || n != len(data) {
		t.Fatalf("%d of %d bytes, %v", n, len(data), err)
	}
	if want := (len(data) - outputPipe) / (outputPipe / 2); pauses != want {
		t.Errorf("%d pauses, want %d", pauses, want)
	}
	if _, err := io.CopyN(&got, r, outputPipe); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("other bytes came, %v", err)
	}
}

// The pause follows what is read meanwhile, and begins with the shortest.
func TestPacedPipe_Learn(t *testing.T) {
	p, r := openPaced(t)
	for _, test := range []struct {
		read   int
		took   time.Duration
		paused bool
		want   time.Duration
	}{
		{0, time.Hour, false, 0},
		{32 << 10, 65 * time.Microsecond, false, 0}, // half a GB/s
		{32 << 10, 30 * time.Millisecond, false, shortestPause},
		{outputPipe / 2, 1500 * time.Microsecond, true, 1500 * time.Microsecond},
		{0, time.Hour, true, 1500 * time.Microsecond},
		{32 << 10, 30 * time.Millisecond, true, longestPause},
		{outputPipe, 30 * time.Millisecond, true, 0},
	} {
		before := p.pause
		p.pause = 0
		if _, err := p.Write(make([]byte, outputPipe)); err != nil {
			t.Fatal(err)
		}
		p.pause = before
		if _, err := io.CopyN(io.Discard, r, int64(test.read)); err != nil {
			t.Fatal(err)
		}
		if err := control(p.f, func(fd int) error { p.learn(fd, test.took, test.paused); return nil }); err != nil {
			t.Fatal(err)
		}
		if p.pause != test.want {
			t.Errorf("%+v: %v", test, p.pause)
		}
		if _, err := io.CopyN(io.Discard, r, int64(outputPipe-test.read)); err != nil {
			t.Fatal(err)
		}
	}
}

// Readers of all kinds get what was written, in the sizes of frames.
func TestPacedPipe_Readers(t *testing.T) {
	for name, rest := range map[string]time.Duration{"fast": 0, "slow": 100 * time.Microsecond} {
		t.Run(name, func(t *testing.T) {
			p, r := openPaced(t)
			data := make([]byte, 8<<20)
			_, _ = rand.Read(data)
			go func() {
				for at, n := 0, 9; at < len(data); n = 1<<20 + 9 - n {
					end := min(at+n, len(data))
					if n, err := p.Write(data[at:end]); err != nil || n != end-at {
						t.Errorf("%d of %d bytes, %v", n, end-at, err)
						break
					}
					at = end
				}
			}()
			if err := r.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(data))
			for at := 0; at < len(got); time.Sleep(rest) {
				n, err := r.Read(got[at:min(at+32<<10, len(got))])
				if err != nil {
					t.Fatal(err)
				}
				at += n
			}
			if !bytes.Equal(got, data) {
				t.Error("other bytes came")
			}
		})
	}
}

// A Write that waits ends when the pipe is closed, at either end, also in a pause.
func TestPacedPipe_Close(t *testing.T) {
	for name, end := range map[string]func(p *pacedPipe, r *os.File) error{
		"ours":   func(p *pacedPipe, _ *os.File) error { return p.Close() },
		"theirs": func(_ *pacedPipe, r *os.File) error { return r.Close() },
	} {
		for _, pause := range []time.Duration{0, longestPause} {
			t.Run(name+" after "+pause.String(), func(t *testing.T) {
				p, r := openPaced(t)
				inPause, goOn := make(chan struct{}), make(chan struct{})
				p.pause = pause
				p.sleep = func(time.Duration) { close(inPause); <-goOn }
				ended := make(chan error, 1)
				go func() {
					_, err := p.Write(make([]byte, 2*outputPipe))
					ended <- err
				}()
				if pause > 0 {
					select {
					case <-inPause:
					case <-time.After(5 * time.Second):
						t.Fatal("the Write does not pause")
					}
					time.AfterFunc(50*time.Millisecond, func() { close(goOn) })
				} else {
					time.Sleep(50 * time.Millisecond) // the Write should be under way
				}
				if err := end(p, r); err != nil {
					t.Error(err)
				}
				select {
				case err := <-ended:
					var failed *os.PathError
					if !errors.As(err, &failed) || errors.Is(err, unix.EPIPE) != (name == "theirs") {
						t.Errorf("ended by %v", err)
					}
				case <-time.After(5 * time.Second):
					t.Error("the Write goes on")
				}
			})
		}
	}
}

func TestPauseFor(t *testing.T) {
	const size = 512 << 10
	for _, test := range []struct {
		read       int
		took, want time.Duration
	}{
		{32 << 10, 30 * time.Microsecond, 0}, // 1 GB/s
		{size, time.Millisecond, 0},          // nobody knows how fast
		{size, 10 * time.Millisecond, 0},
		{32 << 10, 200 * time.Microsecond, 1600 * time.Microsecond}, // 160 MB/s
		{size / 2, 1500 * time.Microsecond, 1500 * time.Microsecond},
		{32 << 10, 30 * time.Millisecond, longestPause}, // 1 MB/s
		{1, time.Hour, longestPause},
	} {
		if got := pauseFor(size, test.read, test.took); got != test.want {
			t.Errorf("%d bytes in %v: %v, want %v", test.read, test.took, got, test.want)
		}
	}
}
