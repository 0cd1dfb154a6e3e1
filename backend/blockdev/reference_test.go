package blockdev

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
)

// withReference gives the Fs of dir with the option reference.
func withReference(t *testing.T, dir, reference string) fs.Fs {
	t.Helper()
	leakless(t)
	return newFs(t, `:blockdev,reference="`+reference+`":localhost`+dir)
}

func TestObject_Open_Reference(t *testing.T) {
	dir := t.TempDir()
	data := edges.Contents()[1].Make(9<<20+100, 1)
	old := append(bytes.Clone(data[:7<<20]), "another end"...)
	old[3<<20]++
	if err := os.MkdirAll(filepath.Join(dir, "disks/below"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "olds/below"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/disks/below/img", data)
	write(t, dir+"/olds/below/img", old)
	write(t, dir+"/empty", nil)
	for name, reference := range map[string]string{
		"file": dir + "/olds/below/img", "directory": dir + "/olds", "missing": dir + "/none/here", "not in the directory": dir + "/disks/below",
		"empty": dir + "/empty", "itself": dir + "/disks/below/img",
	} {
		t.Run(name, func(t *testing.T) {
			o := find(t, withReference(t, dir+"/disks", reference), "below/img")
			for _, part := range [][2]int64{{0, int64(len(data))}, {5, 8 << 20}, {4096, 3 << 20}, {6<<20 + 777, 3 << 20}, {100, 100}} {
				r, err := o.Open(t.Context(), &fs.RangeOption{Start: part[0], End: part[0] + part[1] - 1})
				if err != nil {
					t.Fatal(err)
				}
				_, isRebuilt := r.(*rebuilding)
				if want := reference != "" && !strings.Contains(name, "missing") && !strings.Contains(name, "not in") && part[1] > 100; isRebuilt != want {
					t.Errorf("bytes %v: with the reference: %v", part, isRebuilt)
				}
				got, err := io.ReadAll(r)
				if want := data[part[0]:min(part[0]+part[1], int64(len(data)))]; err != nil || !bytes.Equal(got, want) {
					t.Errorf("bytes %v differ: %v", part, err)
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestObject_Open_ReferenceRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/img", make([]byte, 2<<20))
	if err := os.MkdirAll(filepath.Join(dir, "refs/img"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{dir + "/refs": "refs/img: is a directory", "/dev/null": "/dev/null"} {
		o := find(t, withReference(t, dir, name), "img")
		if _, err := o.Open(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A reader may leave in the middle, and go on where it was.
func TestObject_Open_ReferenceClosed(t *testing.T) {
	dir := t.TempDir()
	data := edges.Contents()[1].Make(40<<20, 2)
	write(t, dir+"/img", data)
	write(t, dir+"/old", edges.Contents()[1].Make(40<<20, 3))
	o := find(t, withReference(t, dir, dir+"/old"), "img")
	for _, n := range []int{0, 1, 3 << 20} {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := o.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			cancel()
			if _, err := io.Copy(io.Discard, r); err == nil {
				t.Error("no error after the context ended")
			}
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		cancel()
	}
}

// The reference is cut while it is read: what it no longer has comes from the source, or there is an error, but
// never a wrong image.
func TestObject_Open_ReferenceCut(t *testing.T) {
	dir := t.TempDir()
	data := edges.Contents()[1].Make(60<<20, 4)
	write(t, dir+"/img", data)
	write(t, dir+"/old", data)
	r, err := find(t, withReference(t, dir, dir+"/old"), "img").Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := os.Truncate(dir+"/old", 50<<20); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if !bytes.Equal(got, data[:len(got)]) || err == nil && len(got) != len(data) || err != nil && !strings.Contains(err.Error(), "reference") {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// The image that is replaced is the reference: with parallel ranges, and a rename at the end.
func TestObject_Open_ReferenceReplaced(t *testing.T) {
	dir := t.TempDir()
	data := edges.Contents()[1].Make(24<<20, 5)
	old := bytes.Clone(data)
	for i := 0; i < len(old); i += 1 << 20 {
		old[i]++
	}
	if err := os.Mkdir(dir+"/backup", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, inplace := range []bool{false, true} {
		write(t, dir+"/img", data)
		write(t, dir+"/backup/img", old)
		ctx, ci := fs.AddConfig(t.Context())
		ci.MultiThreadCutoff, ci.MultiThreadChunkSize, ci.MultiThreadStreams, ci.MultiThreadSet, ci.IgnoreTimes = 1<<20, 4<<20, 4, true, true
		ci.Inplace = inplace
		src, dst := withReference(t, dir, dir+"/backup"), newFs(t, dir+"/backup")
		if err := operations.CopyFile(ctx, dst, src, "img", "img"); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(dir + "/backup/img"); err != nil || !bytes.Equal(got, data) {
			t.Errorf("inplace %v: content differs, %v", inplace, err)
		}
	}
}
