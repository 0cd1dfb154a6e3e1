package blockdev

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/chunkedreader"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
)

// As a mount reads: anywhere, and in chunks that grow.
func TestReader_RangeSeek(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	want := edges.Contents()[1].Make(5<<20+123, 1)
	if err := os.WriteFile(filepath.Join(dir, "img"), want, 0o600); err != nil {
		t.Fatal(err)
	}
	o := find(t, f, "img")
	for _, streams := range []int{0, 4} {
		r := chunkedreader.New(t.Context(), o, 64<<10, -1, streams)
		random := rand.New(rand.NewPCG(3, 4))
		for range 50 {
			off := random.Int64N(o.Size())
			n := min(random.Int64N(300<<10), o.Size()-off)
			got := make([]byte, n)
			if _, err := r.RangeSeek(t.Context(), off, io.SeekStart, -1); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want[off:off+n]) {
				t.Fatalf("%d streams, %d bytes at %d: %v", streams, n, off, err)
			}
		}
		if err := r.Close(); err != nil && streams == 0 { // rclone's parallel reader reports its own abandoned reads
			t.Error(err)
		}
	}
}

func TestReader_RangeSeek_Whence(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "img"), []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	rc, err := find(t, f, "img").Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := rc.(fs.RangeSeeker)
	for _, test := range []struct {
		off    int64
		whence int
		n      int64
		at     int64
		want   string
	}{
		{3, io.SeekStart, 2, 3, "34"},
		{1, io.SeekCurrent, -1, 6, "6789"},
		{-4, io.SeekEnd, 3, 6, "678"},
		{0, io.SeekEnd, -1, 10, ""},
		{8, io.SeekStart, 100, 8, "89"},
	} {
		at, err := r.RangeSeek(t.Context(), test.off, test.whence, test.n)
		if err != nil || at != test.at {
			t.Errorf("%+v: at %d, %v", test, at, err)
		}
		if got, err := io.ReadAll(rc); err != nil || string(got) != test.want {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
	for _, off := range []int64{-1, 11} {
		if _, err := r.RangeSeek(t.Context(), off, io.SeekStart, -1); err == nil {
			t.Errorf("seek to %d succeeded", off)
		}
	}
	if err := rc.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.RangeSeek(t.Context(), 0, io.SeekStart, -1); err == nil {
		t.Error("seek after close succeeded")
	}
	if _, err := rc.Read(make([]byte, 1)); err == nil {
		t.Error("read after close succeeded")
	}
}
