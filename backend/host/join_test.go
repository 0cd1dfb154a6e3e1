package host

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func rangeOf(n int64) block.Range { return block.Range{Length: n, BlockSize: block.DefaultSize} }

// openTarget gives a session on which path is open to write size bytes.
func openTarget(t *testing.T, path string, size int64) *Session {
	t.Helper()
	s := here(t)
	s.host.cfg.Direct = Direct(wire.DirectOn)
	req := writeRequest(path, size)
	if _, err := s.Open(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if req.Direct != wire.DirectOff {
		t.Error("the request of the caller was changed")
	}
	return s
}

func TestJoin(t *testing.T) {
	harness.Goroutines(t)
	for i, size := range edges.Sizes() {
		content := edges.Contents()[i%len(edges.Contents())]
		source := content.Make(size, 1)
		for _, old := range edges.Targets(source) {
			path := filepath.Join(t.TempDir(), "target")
			if old.Data != nil {
				path = imageFile(t, old.Data)
			}
			src, dst := opened(t, source), openTarget(t, path, int64(size))
			done := int64(0)
			res, err := Join(t.Context(), src, dst, rangeOf(int64(size)), func(n int64) { done += n })
			if err != nil {
				t.Fatalf("%d %s: %v", size, old.Name, err)
			}
			if done != int64(size) || res.Sender.Root != res.Receiver.Root {
				t.Errorf("%d %s: %d bytes reported, %+v", size, old.Name, done, res)
			}
			if r := res.Receiver; r.Scanned+r.Holes != int64(size) || r.Equal+r.Data+r.Zeroed != int64(size) {
				t.Errorf("%d %s: %+v", size, old.Name, r)
			}
			if err := dst.Close(t.Context(), true, 1); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, source) {
				t.Errorf("%d %s: content differs, %v", size, old.Name, err)
			}
			usable(t, src)
			usable(t, dst)
		}
	}
}

func TestSendTo(t *testing.T) {
	harness.Goroutines(t)
	for i, size := range edges.Sizes() {
		source := edges.Contents()[(i+1)%len(edges.Contents())].Make(size, 1)
		path := imageFile(t, edges.Contents()[1].Make(size, 2))
		dst := openTarget(t, path, int64(size))
		res, err := SendTo(t.Context(), delta.NewStream(bytes.NewReader(source), int64(size)), dst, rangeOf(int64(size)))
		if err != nil || res.Sender.Root != res.Receiver.Root {
			t.Fatalf("%d: %+v, %v", size, res, err)
		}
		if err := dst.Close(t.Context(), true, 1); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, source) {
			t.Errorf("%d: content differs, %v", size, err)
		}
	}
}

// Whichever end fails, that is the error, and both sessions go on.
func TestJoin_Fails(t *testing.T) {
	harness.Goroutines(t)
	const size = 40 << 20
	source := edges.Contents()[1].Make(size, 1)
	for _, c := range []struct {
		name string
		code wire.Code
		do   func(t *testing.T) (src, dst *Session)
	}{
		{"source is cut", wire.CodeIO, func(t *testing.T) (src, dst *Session) {
			path := imageFile(t, source)
			src = here(t)
			if _, err := src.OpenRead(t.Context(), path); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, size/2); err != nil {
				t.Fatal(err)
			}
			return src, openTarget(t, filepath.Join(t.TempDir(), "new"), size)
		}},
		{"target cannot be read", wire.CodeIO, func(t *testing.T) (src, dst *Session) {
			require.Need(t, require.Loop)
			d := harness.Loop(t, size)
			if err := os.Truncate(d.Backing, size/2); err != nil {
				t.Fatal(err)
			}
			return opened(t, source), openTarget(t, d.Path, size)
		}},
		{"target is not open", wire.CodeProtocol, func(t *testing.T) (src, dst *Session) { return opened(t, source), here(t) }},
		{"source is not open", wire.CodeProtocol, func(t *testing.T) (src, dst *Session) {
			return here(t), openTarget(t, filepath.Join(t.TempDir(), "new"), size)
		}},
		{"target is full", wire.CodeNoSpace, func(t *testing.T) (src, dst *Session) {
			require.Need(t, require.Root, require.Mount)
			return opened(t, source), openTarget(t, smallDisk(t, size/2)+"/new", size)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			src, dst := c.do(t)
			_, err := Join(t.Context(), src, dst, rangeOf(size), func(int64) {})
			if !errors.Is(err, c.code) {
				t.Errorf("got %v", err)
			}
			usable(t, src)
			usable(t, dst)
		})
		t.Run(c.name+"/stream", func(t *testing.T) {
			src, dst := c.do(t)
			if c.name == "source is cut" || c.name == "source is not open" {
				usable(t, src)
				return
			}
			_, err := SendTo(t.Context(), memdev.FromBytes(source), dst, rangeOf(size))
			if !errors.Is(err, c.code) {
				t.Errorf("got %v", err)
			}
			usable(t, dst)
		})
	}
}

func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+strconv.Itoa(size), "none", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return dir
}

// The source in this process fails: its own error comes out, not ours.
func TestSendTo_SourceFails(t *testing.T) {
	harness.Goroutines(t)
	const size = 8 << 20
	broken := errors.New("bad sector")
	source := memdev.FromBytes(edges.Contents()[1].Make(size, 1))
	source.Inject(memdev.Fault{Op: memdev.Read, Off: 5 << 20, Err: broken})
	dst := openTarget(t, imageFile(t, make([]byte, size)), size)
	if _, err := SendTo(t.Context(), source, dst, rangeOf(size)); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	usable(t, dst)
	for _, n := range []int{0, 1, size - 1, size + 1} {
		_, err := SendTo(t.Context(), delta.NewStream(bytes.NewReader(make([]byte, n)), size), dst, rangeOf(size))
		if !errors.Is(err, wire.CodeSource) {
			t.Errorf("%d bytes of %d: %v", n, size, err)
		}
		usable(t, dst)
	}
}

func TestJoin_Cancel(t *testing.T) {
	harness.Goroutines(t)
	const size = 64 << 20
	source := edges.Contents()[1].Make(size, 1)
	enough := errors.New("enough")
	for name, run := range map[string]func(ctx context.Context, src, dst *Session, progress func(int64)) error{
		"join": func(ctx context.Context, src, dst *Session, progress func(int64)) error {
			_, err := Join(ctx, src, dst, rangeOf(size), progress)
			return err
		},
		"send": func(ctx context.Context, src, dst *Session, progress func(int64)) error {
			m := memdev.FromBytes(source)
			m.SetDelay(5 * time.Millisecond)
			time.AfterFunc(50*time.Millisecond, func() { progress(1) })
			_, err := SendTo(ctx, m, dst, rangeOf(size))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			src, dst := opened(t, source), openTarget(t, filepath.Join(t.TempDir(), "new"), size)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if err := run(ctx, src, dst, func(n int64) { cancel(enough) }); !errors.Is(err, enough) {
				t.Errorf("got %v", err)
			}
			usable(t, src)
			usable(t, dst)
			cancelled, stop := context.WithCancel(t.Context())
			stop()
			if err := run(cancelled, src, dst, func(int64) {}); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			usable(t, src)
			usable(t, dst)
			// What was written is a base to go on from.
			done := int64(0)
			if _, err := Join(t.Context(), src, dst, rangeOf(size), func(n int64) { done += n }); err != nil || done != size {
				t.Errorf("%d bytes reported, %v", done, err)
			}
		})
	}
}

// A helper that takes nothing any more must not keep a cancelled transfer from ending.
func TestJoin_Stuck(t *testing.T) {
	harness.Goroutines(t)
	source := edges.Contents()[1].Make(8<<20, 1)
	stuck := func(t *testing.T) (*Session, func()) {
		release := make(chan struct{})
		s := played(t, func(r *wire.Reader, w *wire.Writer, conn net.Conn) {
			if _, err := r.Next(); err != nil {
				return
			}
			var m wire.Digests
			for range 8 {
				m.Add(block.Digest{})
			}
			_ = w.Write(&m)
			<-release
		})
		return s, func() { close(release) }
	}
	for name, run := range map[string]func(ctx context.Context, dst *Session) error{
		"join": func(ctx context.Context, dst *Session) error {
			_, err := Join(ctx, opened(t, source), dst, rangeOf(8<<20), func(int64) {})
			return err
		},
		"send": func(ctx context.Context, dst *Session) error {
			_, err := SendTo(ctx, memdev.FromBytes(source), dst, rangeOf(8<<20))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dst, release := stuck(t)
			t.Cleanup(release)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			start := time.Now()
			if err := run(ctx, dst); err == nil {
				t.Error("success")
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// The target's helper vanishes in the middle.
func TestJoin_Lost(t *testing.T) {
	harness.Goroutines(t)
	const size = 64 << 20
	source := edges.Contents()[1].Make(size, 1)
	for _, which := range []string{"target", "source"} {
		t.Run(which, func(t *testing.T) {
			h := newFakeHost(t, Config{})
			src, dst := session(t, h.Host), session(t, h.Host)
			defer src.Release()
			defer dst.Release()
			if _, err := src.OpenRead(t.Context(), imageFile(t, source)); err != nil {
				t.Fatal(err)
			}
			if _, err := dst.Open(t.Context(), writeRequest(filepath.Join(t.TempDir(), "new"), size)); err != nil {
				t.Fatal(err)
			}
			victim := dst
			if which == "source" {
				victim = src
			}
			var once atomic.Bool
			_, err := Join(t.Context(), src, dst, rangeOf(size), func(int64) {
				if once.CompareAndSwap(false, true) {
					go victim.stream.Close()
				}
			})
			wantError(t, err, KindLost, true, "fake")
			if victim.alive() {
				t.Error("the lost session counts as alive")
			}
		})
	}
}
