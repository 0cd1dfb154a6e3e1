package blockdev

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// unanswered makes a last step, which calls mute when its request is about to be sent: then nothing comes through that
// the host says, until the step is done and the line is cut.
func unanswered(t *testing.T, relay *harness.Relay, done func() bool, last func(mute func()) error) error {
	t.Helper()
	var once sync.Once
	var cut sync.WaitGroup
	err := last(func() {
		once.Do(func() {
			relay.Mute(true)
			cut.Go(func() {
				for end := time.Now().Add(20 * time.Second); !done() && time.Now().Before(end); {
					time.Sleep(5 * time.Millisecond)
				}
				time.Sleep(50 * time.Millisecond) // the answer is lost
				relay.Mute(false)
				relay.Cut()
			})
		})
	})
	cut.Wait()
	return err
}

// none tells whether there is no file with such a name.
func none(pattern string) bool {
	found, _ := filepath.Glob(pattern)
	return len(found) == 0
}

// cloning is a directory on a file system that can clone files.
func cloning(t *testing.T) (dir string) {
	t.Helper()
	require.Need(t, require.Root, require.Loop, require.Mount, require.Btrfs)
	dev := harness.Loop(t, 128<<20).Path
	dir = t.TempDir()
	for _, args := range [][]string{{"mkfs.btrfs", "-q", "-f", dev}, {"mount", dev, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return dir
}

// The answer to the last step of a copy is lost, and the step was done: that is no failure.
func TestEnding_Copy(t *testing.T) {
	data, old := edges.Contents()[1].Make(3<<20+5, 3), edges.Contents()[1].Make(2<<20, 4)
	for name, way := range map[string]struct {
		set  func(opt *Options, kept string)
		done func(img, kept string, was os.FileInfo) bool
		says string
	}{
		"direct": {func(*Options, string) {}, func(img, _ string, _ os.FileInfo) bool { return isOf(img, when) }, ""},
		"undo": {func(o *Options, kept string) { o.Undo = kept },
			func(img, _ string, _ os.FileInfo) bool { return isOf(img, when) }, ""},
		"atomic": {func(o *Options, kept string) { o.Spool = kept; _ = o.Apply.Set("atomic") },
			func(_, kept string, _ os.FileInfo) bool { return none(kept + "/*.spool") }, "it is complete"},
		"reflink": {func(o *Options, _ string) { _ = o.Apply.Set("reflink") },
			func(img, _ string, was os.FileInfo) bool {
				fi, err := os.Stat(img)
				return err == nil && !os.SameFile(fi, was)
			}, "it is complete"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, kept := t.TempDir(), t.TempDir()
			if name == "reflink" {
				dir = cloning(t)
			}
			img := dir + "/img"
			write(t, img, old)
			was, err := os.Stat(img)
			if err != nil {
				t.Fatal(err)
			}
			f, relay := overSSH(t, dir)
			way.set(&f.(*Fs).opt, kept)
			l := listen(t)
			w := chunked(t, f, "img", int64(len(data)))
			if _, err := w.WriteChunk(t.Context(), 0, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			if err := unanswered(t, relay, func() bool { return way.done(img, kept, was) }, func(mute func()) error {
				mute()
				return w.Close(t.Context())
			}); err != nil {
				t.Errorf("complete, but: %v", err)
			}
			same(t, img, data)
			if !isOf(img, when) || !none(dir+"/.blockdev-*") || !none(kept+"/*.spool") {
				t.Error("another time, or something is left")
			}
			if said := l.text(); !strings.Contains(said, "lost, resuming") || !strings.Contains(said, way.says) {
				t.Errorf("said %s", said)
			}
			if name == "undo" {
				if _, err := runCommand(t, f, "undo", nil, "img"); err != nil {
					t.Fatal(err)
				}
				same(t, img, old)
			}
		})
	}
}

func isOf(path string, when time.Time) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.ModTime().Equal(when)
}

// A spool that somebody has removed before it was applied is not taken for one that was applied.
func TestEnding_SpoolIsGone(t *testing.T) {
	data, old := edges.Contents()[1].Make(3<<20, 3), edges.Contents()[1].Make(3<<20, 4)
	dir, kept := t.TempDir(), t.TempDir()
	write(t, dir+"/img", old)
	f, relay := overSSH(t, dir)
	f.(*Fs).opt.Spool = kept
	_ = f.(*Fs).opt.Apply.Set("atomic")
	w := chunked(t, f, "img", int64(len(data)))
	if _, err := w.WriteChunk(t.Context(), 0, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	w.(*chunkWriter).t.asked = true
	relay.Cut()
	for _, spool := range glob(t, kept+"/*.spool") {
		if err := os.Remove(spool); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "the spool is not complete") {
		t.Errorf("got %v", err)
	}
	same(t, dir+"/img", old)
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found
}

// An undo whose answer is lost takes back one copy, not the one before as well; and a recovery says what it did.
func TestEnding_Undo(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	states := [][]byte{edges.Contents()[1].Make(2<<20, 1), edges.Contents()[1].Make(2<<20, 2), edges.Contents()[1].Make(2<<20, 3)}
	write(t, dir+"/img", states[0])
	f, relay := overSSH(t, dir)
	opt := &f.(*Fs).opt
	opt.Undo = kept
	for _, data := range states[1:] {
		if _, err := put(f, "img", data); err != nil {
			t.Fatal(err)
		}
	}
	at, err := f.(*Fs).below("img")
	if err != nil {
		t.Fatal(err)
	}
	last := func(done func() bool, request func(which wire.Which) wire.Message) (found map[string]string, err error) {
		err = unanswered(t, relay, done, func(mute func()) error {
			w := &withLog{at, f.(*Fs).newObject("img", wire.Entry{}), func(which wire.Which) wire.Message {
				if which.Log != "" {
					mute()
				}
				return request(which)
			}}
			found, err = w.do(t.Context())
			return err
		})
		return found, err
	}
	for left := 1; left >= 0; left-- {
		found, err := last(func() bool { return len(logs(t, kept)) == left }, func(which wire.Which) wire.Message {
			m := &wire.Undo{Dir: kept, Which: which}
			m.Path = at.path
			return m
		})
		if err != nil || found["copy"] != "complete" || found["gone"] != "" {
			t.Fatalf("%v, %v", found, err)
		}
		same(t, dir+"/img", states[left])
	}

	opt.Undo, opt.Spool, opt.RetryTime = "", kept, 0
	_ = opt.Apply.Set("atomic")
	relay.Reset()
	relay.CutAfter(1 << 20)
	if _, err := put(f, "img", states[2]); err == nil {
		t.Fatal("no error")
	}
	opt.RetryTime = fs.Duration(time.Minute)
	glob(t, kept+"/*.spool")
	found, err := last(func() bool { return none(kept + "/*.spool") }, func(which wire.Which) wire.Message {
		m := &wire.Recover{Dir: kept, Which: which}
		m.Path = at.path
		return m
	})
	if err != nil || found["content"] != "old" {
		t.Errorf("%v, %v", found, err)
	}
	same(t, dir+"/img", states[0])
}

// A copy of a whole object, whose answers are lost from the moment on when the spool is applied.
func TestEnding_Atomic(t *testing.T) {
	const size = 24 << 20
	dir, from, kept := t.TempDir(), t.TempDir(), t.TempDir()
	data, old := edges.Contents()[1].Make(size, 3), edges.Contents()[1].Make(size, 4)
	write(t, from+"/img", data)
	f, relay := overSSH(t, dir)
	f.(*Fs).opt.Spool = kept
	_ = f.(*Fs).opt.Apply.Set("atomic")
	src := find(t, newFs(t, from), "img")
	for range 10 { // until the answer was still to come then
		write(t, dir+"/img", old)
		l := listen(t)
		stop := make(chan struct{})
		over := make(chan struct{})
		go func() {
			defer close(over)
			for !begins(dir+"/img", data) {
				select {
				case <-stop:
					return
				default:
				}
			}
			relay.Mute(true)
			for !none(kept + "/*.spool") {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(20 * time.Millisecond)
			relay.Mute(false)
			relay.Cut()
		}()
		_, err := operations.Copy(t.Context(), f, nil, "img", src)
		close(stop)
		<-over
		if err != nil {
			t.Fatal(err)
		}
		same(t, dir+"/img", data)
		if strings.Contains(l.text(), "it is complete") {
			return
		}
	}
	t.Error("the answer was never lost")
}

// begins tells whether a file begins with other content.
func begins(path string, with []byte) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	got := make([]byte, 4096)
	_, err = f.ReadAt(got, 0)
	return err == nil && bytes.Equal(got, with[:len(got)])
}
