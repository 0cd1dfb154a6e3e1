package blockdev

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// chunked opens the image at remote for chunks of a source of that size.
func chunked(t *testing.T, f fs.Fs, remote string, size int64) fs.ChunkWriter {
	t.Helper()
	_, w, err := f.(*Fs).OpenChunkWriter(t.Context(), remote, info(remote, size))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestChunkWriter(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	data := edges.Contents()[1].Make(2*chunkSize+5000, 1)
	w := chunked(t, f, "img", int64(len(data)))
	for _, n := range []int{2, 0, 1, 1} { // in any order, and again after an error of the source
		part := data[n*chunkSize : min((n+1)*chunkSize, len(data))]
		if got, err := w.WriteChunk(t.Context(), n, bytes.NewReader(part)); err != nil || got != int64(len(part)) {
			t.Fatalf("chunk %d: %d bytes, %v", n, got, err)
		}
	}
	for _, n := range []int{-1, 3} {
		if _, err := w.WriteChunk(t.Context(), n, bytes.NewReader(nil)); err == nil {
			t.Errorf("chunk %d succeeded", n)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "img")); err == nil {
		t.Error("the image has its name before it is complete")
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, filepath.Join(dir, "img"), data)
	if err := w.Abort(t.Context()); err != nil {
		t.Error(err)
	}
	same(t, filepath.Join(dir, "img"), data)
}

// What is there is looked at before, so that the helper refuses what becomes something else.
func TestChunkWriter_Kind(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	write(t, dir+"/img", make([]byte, 5000))
	for name, kind := range map[string]wire.Kind{"img": wire.KindFile, "new": 0} {
		w := chunked(t, f, name, 1000)
		if got := w.(*chunkWriter).t.req.Kind; got != kind {
			t.Errorf("%s: kind %d, not %d", name, got, kind)
		}
		if err := w.Abort(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "img/below"} {
		if _, _, err := f.(*Fs).OpenChunkWriter(t.Context(), name, info(name, 1000)); err == nil {
			t.Errorf("%q was opened", name)
		}
	}
}

// A chunk that is shorter or longer than it should be is no success.
func TestChunkWriter_WrongLength(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	for _, n := range []int{999, 1001} {
		w := chunked(t, f, "img", 1000)
		if _, err := w.WriteChunk(t.Context(), 0, bytes.NewReader(make([]byte, n))); err == nil {
			t.Errorf("%d of 1000 bytes succeeded", n)
		}
		if err := w.Abort(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// What existed is said to be half new, also when the failure was the source's and no chunk has seen it.
func TestChunkWriter_Abort(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	write(t, dir+"/img", make([]byte, 2*chunkSize))
	w := chunked(t, f, "img", 2*chunkSize)
	if _, err := w.WriteChunk(t.Context(), 0, bytes.NewReader(bytes.Repeat([]byte{7}, chunkSize))); err != nil {
		t.Fatal(err)
	}
	log := listen(t)
	for range 2 {
		if err := w.Abort(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(log.text(), "partly updated"); n != 1 {
		t.Errorf("said %d times: %s", n, log.text())
	}
}

// Files of this machine need no chunks, however they are named.
func TestLocalFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/sub/．", 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/sub/img", []byte("image"))
	write(t, dir+"/sub/．/img", []byte("another"))
	t.Chdir(dir + "/sub")
	f := here(t, dir)
	for _, root := range []string{".", "./", "..", "../sub", dir + "/sub", "../sub/．"} {
		remote := "img"
		if root == ".." {
			remote = "sub/img"
		}
		src := find(t, newFs(t, root), remote)
		at := localFile(context.Background(), src)
		if at == nil {
			t.Errorf("%q: not found", root)
			continue
		}
		want := dir + "/sub/img"
		if strings.Contains(root, "．") {
			want = dir + "/sub/．/img"
		}
		if at.path != want {
			t.Errorf("%q: %s instead of %s", root, at.path, want)
		}
		if _, _, err := f.(*Fs).OpenChunkWriter(t.Context(), "copy", src); err == nil {
			t.Errorf("%q is written in chunks", root)
		}
	}
}
