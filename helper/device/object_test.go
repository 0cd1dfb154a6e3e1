package device

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
)

// pattern is size bytes without a zero among them.
func pattern(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7%255 + 1)
	}
	return b
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantContent(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes that differ from the %d wanted", path, len(got), len(want))
	}
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, want) {
		t.Errorf("%s holds %q, want %q", dir, names, want)
	}
}

func create(t *testing.T, path string, size int64) *Object {
	t.Helper()
	o, err := OpenWrite(path, WriteOptions{Size: size, Lead: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func TestOpenWrite_NewImage(t *testing.T) {
	when := time.Date(2024, 2, 29, 12, 0, 0, 123456700, time.UTC)
	for _, size := range edges.Sizes() {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "b")
			path := filepath.Join(dir, "disk.img")
			content := pattern(size)
			o := create(t, path, int64(size))
			if o.Size() != int64(size) || o.Info().Size != int64(size) || o.Info().Name != "disk.img" {
				t.Errorf("usable %d, info %+v", o.Size(), o.Info())
			}
			if n, err := o.WriteAt(content, 0); n != size || err != nil {
				t.Fatal(n, err)
			}
			wantNames(t, dir, filepath.Base(o.Path()))
			if list, err := List(dir); err != nil || len(list) != 0 {
				t.Errorf("the partial file is listed: %+v, %v", list, err)
			}
			got := make([]byte, size)
			if _, err := o.ReadAt(got, 0); err != nil && size > 0 || !bytes.Equal(got, content) {
				t.Errorf("read back: %v", err)
			}
			if size < 10_000 { // it reads byte by byte
				if err := iotest.TestReader(io.NewSectionReader(o, 0, int64(size)), content); err != nil {
					t.Error(err)
				}
			}
			if err := o.Commit(when); err != nil {
				t.Fatal(err)
			}
			wantNames(t, dir, "disk.img")
			wantContent(t, path, content)
			info, err := Stat(path)
			if err != nil || !info.ModTime.Equal(when) || info.Size != int64(size) {
				t.Errorf("%+v, %v", info, err)
			}
			fi, _ := os.Stat(path)
			if fi.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
				t.Errorf("a new image has mode %v", fi.Mode())
			}
			if err := o.Commit(when); !errors.Is(err, ErrRefused) {
				t.Errorf("second commit: %v", err)
			}
			if err := o.Abort(); err != nil {
				t.Errorf("abort after commit: %v", err)
			}
			wantNames(t, dir, "disk.img")
		})
	}
}

// What an interrupted run left is the base of the next, whatever its size.
func TestOpenWrite_PartialAfterCrash(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.img")
	first := create(t, path, 5000)
	if _, err := first.WriteAt(pattern(5000), 0); err != nil {
		t.Fatal(err)
	}
	_, err := OpenWrite(path, WriteOptions{Size: 5000})
	if !errors.Is(err, ErrBusy) {
		t.Errorf("two copies to one new image: %v", err)
	}
	first.Close()
	wantNames(t, dir, filepath.Base(first.Path()))

	for _, size := range []int64{5000, 3000, 9000} {
		o := create(t, path, size)
		got := make([]byte, size)
		if _, err := o.ReadAt(got, 0); err != nil || o.Path() != first.Path() {
			t.Fatal(err, o.Path())
		}
		want := make([]byte, size)
		copy(want, pattern(3000))
		if size == 5000 {
			want = pattern(5000)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("size %d: the base is not what was left", size)
		}
		o.Close()
	}
	if err := create(t, path, 10).Abort(); err != nil {
		t.Fatal(err)
	}
	wantNames(t, dir)
}

func TestOpenWrite_ExistingImage(t *testing.T) {
	when := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		name               string
		have, size, usable int64
		ignore             bool
		after              int64 // size of the file after Commit
	}{
		{"Equal", 4000, 4000, 4000, false, 4000},
		{"Grow", 4000, 9000, 9000, false, 9000},
		{"Cut", 4000, 1000, 1000, false, 1000},
		{"ToNothing", 4000, 0, 0, false, 0},
		{"IgnoreLarger", 4000, 1000, 1000, true, 4000},
		{"IgnoreSmaller", 4000, 9000, 4000, true, 4000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk.img")
			writeFile(t, path, pattern(int(tt.have)))
			before, err := Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			o, err := OpenWrite(path, WriteOptions{Size: tt.size, IgnoreSize: tt.ignore})
			if err != nil {
				t.Fatal(err)
			}
			if o.Size() != tt.usable || o.Path() != path {
				t.Errorf("usable %d, want %d", o.Size(), tt.usable)
			}
			if (len(o.Notices()) > 0) != tt.ignore {
				t.Errorf("notices %q", o.Notices())
			}
			if fi, _ := os.Stat(path); fi.Size() != max(tt.have, tt.after) {
				t.Errorf("%d bytes long while open: cut before the commit", fi.Size())
			}
			if err := o.Commit(when); err != nil {
				t.Fatal(err)
			}
			want := make([]byte, tt.after)
			copy(want, pattern(int(tt.have)))
			wantContent(t, path, want)
			after, _ := Stat(path)
			if after.ID != before.ID || !after.ModTime.Equal(when) {
				t.Errorf("not in place: %+v, was %+v", after, before)
			}
		})
	}
}

func TestObject_AbortKeepsExisting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	writeFile(t, path, pattern(4000))
	if err := create(t, path, 100).Abort(); err != nil {
		t.Fatal(err)
	}
	wantContent(t, path, pattern(4000))
}

func TestObject_Bounds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	writeFile(t, path, pattern(1000))
	r, err := OpenRead(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := make([]byte, 100)
	if n, err := r.ReadAt(p, 950); n != 50 || err != io.EOF {
		t.Errorf("over the end: %d, %v", n, err)
	}
	if n, err := r.ReadAt(p, 1000); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if _, err := r.ReadAt(p, -1); !errors.Is(err, ErrRefused) {
		t.Errorf("before the start: %v", err)
	}
	if _, err := r.WriteAt(p, 0); !errors.Is(err, ErrRefused) {
		t.Errorf("writing to a source: %v", err)
	}
	if err := r.Zero(0, 1); !errors.Is(err, ErrRefused) {
		t.Errorf("zeroing a source: %v", err)
	}
	if err := os.Truncate(path, 300); err != nil {
		t.Fatal(err)
	}
	n, err := r.ReadAt(p, 250)
	var e *Error
	if n != 50 || !errors.As(err, &e) || e.Kind != ErrIO || e.Offset != 300 {
		t.Errorf("cut while read: %d, %v", n, err)
	}
	w := create(t, path, 300)
	for _, off := range []int64{-1, 201, 300, 1 << 62} {
		if n, err := w.WriteAt(p, off); n != 0 || !errors.Is(err, ErrRefused) {
			t.Errorf("writing 100 bytes at %d of 300: %d, %v", off, n, err)
		}
	}
}

// Random writes, zeroes and reads against a slice.
func TestObject_Model(t *testing.T) {
	const size = 300_001
	o := create(t, filepath.Join(t.TempDir(), "disk.img"), size)
	exercise(t, o, size)
}

func exercise(t *testing.T, o *Object, size int64) {
	t.Helper()
	model := make([]byte, size)
	if _, err := o.WriteAt(model, 0); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for step := range 400 {
		off := rnd.Int64N(size)
		n := rnd.Int64N(min(50_000, size-off)) + 1
		if step%3 == 0 {
			off, n = off/512*512, min(n/512*512+512, size-off/512*512)
		}
		if step%2 == 0 {
			b := pattern(int(n))
			if _, err := o.WriteAt(b, off); err != nil {
				t.Fatal(err)
			}
			copy(model[off:], b)
		} else {
			if err := o.Zero(off, n); err != nil {
				t.Fatalf("zero %d at %d: %v", n, off, err)
			}
			clear(model[off : off+n])
		}
		got := make([]byte, size)
		if _, err := o.ReadAt(got, 0); err != nil || !bytes.Equal(got, model) {
			t.Fatalf("step %d differs from the model: %v", step, err)
		}
		for at := int64(0); at < size; {
			start, stop, err := o.Data(at, size)
			if err != nil || start < at || stop < start {
				t.Fatalf("Data(%d) = %d, %d, %v", at, start, stop, err)
			}
			if bytes.Count(model[at:start], []byte{0}) != int(start-at) {
				t.Fatalf("step %d: data in what Data skipped from %d to %d", step, at, start)
			}
			if start == stop && start != size {
				t.Fatalf("Data(%d) found nothing before the end", at)
			}
			at = stop
		}
	}
	if err := o.Sync(); err != nil {
		t.Fatal(err)
	}
}
