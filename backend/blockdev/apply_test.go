package blockdev

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
)

// A copy by a spool leaves nothing behind, in every way to write an object and with several streams.
func TestApply_Atomic(t *testing.T) {
	leakless(t)
	const size = 5<<28 + 12345
	dir, spool := t.TempDir(), t.TempDir()
	img, src := sparse(t, dir+"/img", size, 'o'), sparse(t, dir+"/src", size, 's')
	f := newFs(t, `:blockdev,streams=4,apply=atomic,spool_dir="`+spool+`":localhost`+dir)
	if _, err := operations.Copy(t.Context(), f, nil, "img", find(t, here(t, dir), "src")); err != nil {
		t.Fatal(err)
	}
	if sumOf(t, img) != sumOf(t, src) {
		t.Error("not copied")
	}
	data := edges.Contents()[2].Make(2*chunkSize+5000, 1)
	if _, err := put(f, "img", data); err != nil { // becomes shorter
		t.Fatal(err)
	}
	same(t, dir+"/img", data)
	data[100] ^= 1
	w := chunked(t, f, "img", int64(len(data)))
	for _, n := range []int{2, 0, 1, 1} {
		if _, err := w.WriteChunk(t.Context(), n, bytes.NewReader(data[n*chunkSize:min((n+1)*chunkSize, len(data))])); err != nil {
			t.Fatal(err)
		}
	}
	data[100] ^= 1
	same(t, dir+"/img", data)
	data[100] ^= 1
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, dir+"/img", data)
	if _, err := put(f, "new", data); err != nil {
		t.Fatal(err)
	}
	same(t, dir+"/new", data)
	if _, err := runCommand(t, f, "recover", nil, "img"); !errors.Is(err, fs.ErrorObjectNotFound) {
		t.Errorf("recover: %v", err)
	}
	if left, _ := os.ReadDir(spool); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// A connection that is lost changes nothing of what is kept, or of what is spooled, and a source that fails leaves the
// target as it was.
func TestApply_Lost(t *testing.T) {
	const size = 40 << 20
	dir, from, kept := t.TempDir(), t.TempDir(), t.TempDir()
	data, old := edges.Contents()[1].Make(size, 3), edges.Contents()[1].Make(size-1<<20, 4)
	write(t, from+"/img", data)
	f, relay := overSSH(t, dir)
	opt := &f.(*Fs).opt
	for name, set := range map[string]func(){
		"undo":   func() { opt.Undo, opt.Apply, opt.Spool = kept, 0, "" },
		"atomic": func() { opt.Undo, opt.Spool = "", kept; _ = opt.Apply.Set("atomic") },
	} {
		write(t, dir+"/img", old)
		set()
		relay.Reset()
		relay.CutAfter(15 << 20)
		if _, err := operations.Copy(t.Context(), f, nil, "img", find(t, newFs(t, from), "img")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		same(t, dir+"/img", data)
		if name == "undo" {
			if _, err := runCommand(t, f, "undo", nil, "img"); err != nil {
				t.Fatal(err)
			}
			same(t, dir+"/img", old)
			continue
		}
		if _, err := f.Put(t.Context(), strings.NewReader("too short"), info("img", size)); err == nil {
			t.Error("a short source is no error")
		}
		same(t, dir+"/img", data)
	}
	if left, _ := os.ReadDir(kept); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// What cannot be used together, or lacks a directory, is refused.
func TestApply_Refused(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/img", []byte("old"))
	for options, text := range map[string]string{
		"apply=atomic":                     "needs spool_dir",
		"apply=atomic,spool_dir=relative":  "needs spool_dir",
		"apply=atomic,spool_dir=/none":     "does not exist",
		"apply=atomic,spool_dir=/,undo=/":  "cannot be used together",
		"apply=reflink,undo=/":             "use one of them",
		"apply=atomic,spool_dir=/dev/null": "character device",
	} {
		if _, err := put(newFs(t, ":blockdev,"+options+":localhost"+dir), "img", []byte("new")); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", options, err)
		}
		same(t, dir+"/img", []byte("old"))
	}
	src := t.TempDir()
	write(t, src+"/img", []byte("new"))
	skip, err := newFs(t, ":blockdev,read_errors=skip:localhost"+src).NewObject(t.Context(), "img")
	if err != nil {
		t.Fatal(err)
	}
	atomic := newFs(t, ":blockdev,apply=atomic,spool_dir=\""+t.TempDir()+"\":localhost"+dir)
	if _, err := operations.Copy(t.Context(), atomic, nil, "img", skip); err == nil || !strings.Contains(err.Error(), "read_errors = skip") {
		t.Errorf("skip and atomic: %v", err)
	}
	same(t, dir+"/img", []byte("old"))
	f := here(t, dir)
	for _, opt := range []map[string]string{nil, {"dir": "relative"}, {"dir": dir}} {
		if _, err := runCommand(t, f, "recover", opt, "img"); err == nil {
			t.Errorf("recover with %v", opt)
		}
	}
}
