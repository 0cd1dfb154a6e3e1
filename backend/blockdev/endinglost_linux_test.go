package blockdev

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/log"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// ended is a copy of which all is written and the last step was done, and whose connection was cut before the answer.
func ended(t *testing.T, f fs.Fs, relay *harness.Relay, data []byte) *chunkWriter {
	t.Helper()
	w := chunked(t, f, "img", int64(len(data))).(*chunkWriter)
	if _, err := w.WriteChunk(t.Context(), 0, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	at, lead := w.t.at.path, w.t.lead.s
	until := func(done func() bool) {
		for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the last step was not done, or not lost")
			}
		}
	}
	if err := lead.Write(&wire.Close{Commit: true, ModTime: when.UnixNano()}); err != nil {
		t.Fatal(err)
	}
	until(func() bool {
		return isOf(at, when) && none(w.t.req.Spool+"/*.spool") && none(filepath.Dir(at)+"/.blockdev-*")
	})
	w.t.asked = true
	relay.Cut()
	until(func() bool { return !lead.Usable() })
	return w
}

// rootsOf are the roots of ranges of a file, each n bytes.
func rootsOf(t *testing.T, dir, name string, size, n int64) (all []heldContent) {
	t.Helper()
	at, err := newFs(t, "blockdev:localhost"+dir).(*Fs).place(name)
	if err != nil {
		t.Fatal(err)
	}
	l, err := openSource(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	for off := int64(0); off < size; off += n {
		r := block.Range{Offset: off, Length: min(n, size-off), BlockSize: block.DefaultSize}
		root, err := l.s.Root(t.Context(), r, func(int64) {})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, heldContent{r, root})
	}
	return all
}

// holding is a report of these.
func holding(all ...heldContent) *report {
	r := &report{}
	for _, h := range all {
		r.settle(h.Range, &host.Result{})
		r.held[h.Offset] = h
	}
	return r
}

// isRead tells whether a helper has a file open for reading alone.
func isRead(path string) bool {
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, name := range names {
		if comm, _ := os.ReadFile(name); string(comm) != "blockdev-helper\n" {
			continue
		}
		links, _ := filepath.Glob(filepath.Dir(name) + "/fd/*")
		for _, link := range links {
			if to, err := os.Readlink(link); err != nil || to != path {
				continue
			}
			info, _ := os.ReadFile(filepath.Dir(name) + "/fdinfo/" + filepath.Base(link))
			if _, rest, ok := strings.Cut(string(info), "flags:"); ok && strings.HasSuffix(strings.Fields(rest)[0], "0") {
				return true
			}
		}
	}
	return false
}

// The connection that reads whether a target is complete is lost as well: the target is read again when there is another,
// and when there is none nobody says that the copy has failed.
func TestEnding_LostAgain(t *testing.T) {
	const size = 8 << 20
	data, old := edges.Contents()[1].Make(size, 3), edges.Contents()[1].Make(size, 4)
	for name, way := range map[string]struct {
		set  func(o *Options, kept string)
		back bool
		says string
	}{
		"atomic":        {func(o *Options, kept string) { o.Spool = kept; _ = o.Apply.Set("atomic") }, true, "it is complete"},
		"reflink":       {func(o *Options, _ string) { _ = o.Apply.Set("reflink") }, true, "it is complete"},
		"atomic, gone":  {func(o *Options, kept string) { o.Spool = kept; _ = o.Apply.Set("atomic") }, false, "the target is complete, or as it was"},
		"reflink, gone": {func(o *Options, _ string) { _ = o.Apply.Set("reflink") }, false, "the target is complete, or as it was"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, kept := t.TempDir(), t.TempDir()
			if strings.HasPrefix(name, "reflink") {
				dir = cloning(t)
			}
			f, relay := overSSH(t, dir)
			way.set(&f.(*Fs).opt, kept)
			write(t, dir+"/img", old)
			w := ended(t, f, relay, data)
			w.report = holding(rootsOf(t, dir, "img", size, 512<<10)...)
			l := listen(t)
			fs.GetConfig(t.Context()).LogLevel = fs.LogLevelDebug
			log.Handler.SetLevel(slog.LevelDebug)
			if !way.back {
				w.t.o.fs.opt.RetryTime = fs.Duration(3 * time.Second)
			}
			relay.Delay(100 * time.Millisecond) // for each of the roots
			var cut sync.WaitGroup
			over := make(chan struct{})
			cut.Go(func() {
				for !isRead(dir + "/img") {
					select {
					case <-over:
						t.Error("it was not read")
						return
					case <-time.After(5 * time.Millisecond):
					}
				}
				time.Sleep(300 * time.Millisecond)
				relay.Refuse(!way.back)
				relay.Cut()
			})
			err := w.Close(t.Context())
			close(over)
			cut.Wait()
			relay.Refuse(false)
			same(t, dir+"/img", data)
			said := fmt.Sprint(l.text(), err)
			twice := strings.Contains(said, "whether 127.0.0.1") || strings.Count(said, "lost, resuming") == 2
			if (err == nil) != way.back || err != nil && !isLost(err) || !twice || !strings.Contains(said, way.says) {
				t.Errorf("%v; said %s", err, said)
			}
		})
	}
}

// The names of a directory are not durable when what is left of another clone cannot be removed from it: that is no
// success, and is one when it can be.
func TestEnding_Remainder(t *testing.T) {
	data := edges.Contents()[1].Make(3<<20, 3)
	dir := cloning(t)
	write(t, dir+"/img", edges.Contents()[1].Make(3<<20, 4))
	f, relay := overSSH(t, dir)
	_ = f.(*Fs).opt.Apply.Set("reflink")
	w := ended(t, f, relay, data)
	t.Cleanup(func() { w.t.abort(nil) })
	fixed := func(flag string) {
		if out, err := exec.Command("chattr", flag, dir).CombinedOutput(); err != nil {
			t.Fatalf("chattr: %v: %s", err, out)
		}
	}
	again, err := takeWithin(t.Context(), w.t.at, &w.t.req, nil, false)
	for end := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		again, err = takeWithin(t.Context(), w.t.at, &w.t.req, nil, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	fixed("+i")
	renamed, err := w.t.isRenamed(t.Context(), again, true, w.report)
	fixed("-i")
	if renamed || w.t.done || err == nil || !strings.Contains(err.Error(), "whether it has its name durably is not known") {
		t.Errorf("%v, %v", renamed, err)
	}
	if state := w.t.partly(sameCommand); !strings.Contains(state, "is complete, or as it was") {
		t.Error(state)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Error(err)
	}
	same(t, dir+"/img", data)
	if !none(dir + "/.blockdev-*") {
		t.Error("something is left")
	}
}

// A target is whole only where the roots of all its bytes are known, and are its own; with some of them missing nobody
// knows.
func TestEnding_MissingRoots(t *testing.T) {
	const size = 3<<20 + 5
	dir := t.TempDir()
	write(t, dir+"/img", edges.Contents()[1].Make(size, 3))
	f := here(t, dir)
	o := find(t, f, "img").(*Object)
	at, err := o.fs.place(o.remote)
	if err != nil {
		t.Fatal(err)
	}
	all := rootsOf(t, dir, "img", size, 2<<20)
	first, second := all[0], all[1]
	other := second
	other.root[0]++
	for name, c := range map[string]struct {
		held    []heldContent
		size    int64
		whole   bool
		unknown string
	}{
		"all":           {[]heldContent{first, second}, size, true, ""},
		"no beginning":  {[]heldContent{second}, size, false, fmt.Sprintf("has compared %d of its %d bytes", size-2<<20, size)},
		"no end":        {[]heldContent{first}, size, false, "has compared 2097152 of its"},
		"nothing":       {nil, size, false, "has compared 0 of its"},
		"another root":  {[]heldContent{first, other}, size, false, ""},
		"another size":  {[]heldContent{first, second}, size + 1, false, ""},
		"wrong, no end": {[]heldContent{other}, size, false, ""},
	} {
		tgt := &target{o: o, at: at, req: wire.Open{Size: c.size}, lead: &lease{opened: &wire.Opened{Size: c.size}}}
		whole, err := tgt.isWhole(t.Context(), holding(c.held...))
		if whole != c.whole || (err != nil) != (c.unknown != "") || err != nil && !strings.Contains(err.Error(), c.unknown) {
			t.Errorf("%s: %v, %v", name, whole, err)
		}
	}
}
