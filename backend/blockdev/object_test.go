package blockdev

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/fs/hash"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func TestFs_List(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	if err := f.Mkdir(t.Context(), "sub/dir"); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/sub/disk.img", []byte("hello"))
	entries, err := f.List(t.Context(), "sub")
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v", entries, err)
	}
	if d, ok := entries[0].(fs.Directory); !ok || d.Remote() != "sub/dir" {
		t.Errorf("%v", entries[0])
	}
	if o, ok := entries[1].(fs.Object); !ok || o.Remote() != "sub/disk.img" || o.Size() != 5 || !o.Storable() {
		t.Errorf("%v", entries[1])
	}
	for _, missing := range []string{"none", "sub/disk.img/none", "sub/disk.img"} {
		if _, err := f.List(t.Context(), missing); !errors.Is(err, fs.ErrorDirNotFound) {
			t.Errorf("list of %s: %v", missing, err)
		}
	}
	for remote, want := range map[string]error{
		"none": fs.ErrorObjectNotFound, "sub/disk.img/none": fs.ErrorObjectNotFound, "sub": fs.ErrorIsDir, "": fs.ErrorIsDir,
	} {
		if _, err := f.NewObject(t.Context(), remote); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", remote, err, want)
		}
	}
	if err := f.Rmdir(t.Context(), "sub"); !errors.Is(err, fs.ErrorDirectoryNotEmpty) {
		t.Errorf("rmdir: %v", err)
	}
	if err := f.Rmdir(t.Context(), "none"); !errors.Is(err, fs.ErrorDirNotFound) {
		t.Errorf("rmdir: %v", err)
	}
	if err := f.Rmdir(t.Context(), "sub/dir"); err != nil {
		t.Error(err)
	}
	dev := newFs(t, "blockdev:localhost/dev/")
	if _, err := dev.NewObject(t.Context(), "null"); !errors.Is(err, fs.ErrorNotAFile) || !fserrors.IsNoRetryError(err) {
		t.Errorf("character device: %v", err)
	}
	u, err := f.Features().About(t.Context())
	if err != nil || *u.Total < *u.Used || *u.Free <= 0 {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestFs_Put(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	contents := edges.Contents()
	for i, size := range edges.Sizes() {
		for j := range edges.Targets(nil) {
			data := contents[(i+j)%len(contents)].Make(size, 1)
			target := edges.Targets(data)[j]
			name := strconv.Itoa(size) + target.Name
			var o fs.Object
			var err error
			if target.Data == nil {
				o, err = put(f, "new/"+name, data)
				name = "new/" + name
			} else {
				write(t, dir+"/"+name, target.Data)
				o = find(t, f, name)
				err = o.Update(t.Context(), bytes.NewReader(data), info("another name", int64(size)))
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			same(t, dir+"/"+name, data)
			fresh := find(t, f, name)
			if o.Size() != int64(size) || !o.ModTime(t.Context()).Equal(when) || o.Remote() != name ||
				fs.Fingerprint(t.Context(), o, true) != fs.Fingerprint(t.Context(), fresh, true) {
				t.Errorf("%s: %v %v, fresh %v %v", name, o.Size(), o.ModTime(t.Context()), fresh.Size(), fresh.ModTime(t.Context()))
			}
		}
	}
}

// Whatever comes is not what was announced: refused, and never taken for success.
func TestFs_Put_WrongSize(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	for _, size := range []int{0, 1, 4096, 1 << 20, 3<<20 + 5} {
		for _, off := range []int{-size, -1, 1, 4096, 2 << 20} {
			if size+off < 0 || off == 0 {
				continue
			}
			data := edges.Contents()[1].Make(size+off, 3)
			o, err := f.Put(t.Context(), bytes.NewReader(data), info("new", int64(size)))
			if !errors.Is(err, wire.CodeSource) || o != nil {
				t.Errorf("%d bytes for %d: %v, %v", size+off, size, o, err)
			}
			if fserrors.IsRetryError(err) || fserrors.ShouldRetry(err) {
				t.Errorf("%d bytes for %d: would be tried again at once: %v", size+off, size, err)
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("%d bytes for %d: left %v", size+off, size, left)
			}
			write(t, dir+"/old", make([]byte, size))
			if err := find(t, f, "old").Update(t.Context(), bytes.NewReader(data), info("old", int64(size))); !errors.Is(err, wire.CodeSource) {
				t.Errorf("%d bytes for %d: update: %v", size+off, size, err)
			}
			os.Remove(dir + "/old")
		}
	}
	for _, src := range []fs.ObjectInfo{info("new", -1), info("old", -1)} {
		write(t, dir+"/old", []byte("old"))
		o, err := f.Put(t.Context(), strings.NewReader("x"), src)
		if o != nil || !fserrors.IsNoRetryError(err) {
			t.Errorf("%s of unknown size: %v, %v", src.Remote(), o, err)
		}
		same(t, dir+"/old", []byte("old"))
		if _, err := os.Stat(dir + "/new"); err == nil {
			t.Error("an object of unknown size was made")
		}
	}
}

// A source that breaks gives its own error, by which rclone decides.
func TestFs_Put_SourceFails(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	for _, broken := range []error{errors.New("no tape"), fserrors.RetryErrorf("try again"), fserrors.FatalError(errors.New("stop")), io.ErrUnexpectedEOF, context.DeadlineExceeded} {
		in := io.MultiReader(bytes.NewReader(make([]byte, 2<<20)), &failing{broken})
		_, err := f.Put(t.Context(), in, info("new", 4<<20))
		if broken == io.ErrUnexpectedEOF {
			if !errors.Is(err, wire.CodeSource) {
				t.Errorf("got %v", err)
			}
		} else if !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func TestObject_Open(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	for _, size := range []int{0, 1, 5000, 3 << 20} {
		data := edges.Contents()[2].Make(size, 4)
		write(t, dir+"/image", data)
		o := find(t, f, "image")
		n := int64(size)
		for _, c := range []struct {
			option   fs.OpenOption
			from, to int64
		}{
			{&fs.HashesOption{}, 0, n},
			{&fs.SeekOption{Offset: 0}, 0, n},
			{&fs.SeekOption{Offset: n / 2}, n / 2, n},
			{&fs.SeekOption{Offset: n}, n, n},
			{&fs.SeekOption{Offset: n + 5}, n, n},
			{&fs.RangeOption{Start: 0, End: -1}, 0, n},
			{&fs.RangeOption{Start: n / 3, End: -1}, n / 3, n},
			{&fs.RangeOption{Start: -1, End: n / 3}, n - n/3, n},
			{&fs.RangeOption{Start: -1, End: n + 9}, 0, n},
			{&fs.RangeOption{Start: -1, End: 0}, n, n},
			{&fs.RangeOption{Start: 0, End: n}, 0, n},
			{&fs.RangeOption{Start: 0, End: n + 1<<40}, 0, n},
			{&fs.RangeOption{Start: n / 3, End: n / 2}, n / 3, min(n/2+1, n)},
			{&fs.RangeOption{Start: 0, End: 0}, 0, min(1, n)},
			{&fs.RangeOption{Start: n, End: n + 10}, n, n},
			{&fs.RangeOption{Start: n + 10, End: n + 20}, n, n},
			{&fs.HTTPOption{Key: "x", Value: "y"}, 0, n},
			{fs.NullOption{}, 0, n},
		} {
			if got := contents(t, o, c.option); !bytes.Equal(got, data[c.from:c.to]) {
				t.Errorf("%d bytes, %v: %d bytes, want %d", size, c.option, len(got), c.to-c.from)
			}
		}
		if got := contents(t, o); !bytes.Equal(got, data) {
			t.Errorf("%d bytes: content differs", size)
		}
	}
	write(t, dir+"/image", []byte("shrunk")) // since the object was found
	if got := contents(t, find(t, f, "image"), &fs.RangeOption{Start: 2, End: 3}); string(got) != "ru" {
		t.Errorf("got %q", got)
	}
	gone := find(t, f, "image")
	os.Remove(dir + "/image")
	if _, err := gone.Open(t.Context()); !errors.Is(err, wire.CodeNotFound) {
		t.Errorf("got %v", err)
	}
}

// A reader may be closed at any time, and the next one works.
func TestObject_Open_Closed(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	data := edges.Contents()[1].Make(20<<20, 5)
	write(t, dir+"/image", data)
	o := find(t, f, "image")
	for _, n := range []int{0, 1, 1 << 20, 10 << 20} {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := o.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if n == 1<<20 {
			cancel()
			if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		cancel()
	}
	if got := contents(t, o); !bytes.Equal(got, data) {
		t.Error("content differs")
	}
}

func TestObject_Hash(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	data := edges.Contents()[2].Make(3<<20+7, 6)
	write(t, dir+"/image", data)
	o := find(t, f, "image")
	want := sha256.Sum256(data)
	got, err := o.Hash(t.Context(), hash.SHA256) // although the Fs offers none
	if err != nil || got != hex.EncodeToString(want[:]) {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := o.Hash(t.Context(), hash.MD5); !errors.Is(err, hash.ErrUnsupported) {
		t.Errorf("MD5: %v", err)
	}
}

func TestObject_SetModTime(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	write(t, dir+"/image", []byte("x"))
	o := find(t, f, "image")
	for _, at := range []time.Time{when, time.Unix(0, 1), time.Unix(1<<31, 999999999), time.Unix(-1, 0)} {
		if err := o.SetModTime(t.Context(), at); err != nil {
			t.Error(err)
		}
		if !o.ModTime(t.Context()).Equal(at) || !find(t, f, "image").ModTime(t.Context()).Equal(at) {
			t.Errorf("%v became %v", at, find(t, f, "image").ModTime(t.Context()))
		}
	}
}

func TestObject_Remove(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	write(t, dir+"/image", []byte("x"))
	o := find(t, f, "image")
	if err := o.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	if err := o.Remove(t.Context()); !errors.Is(err, wire.CodeNotFound) {
		t.Errorf("again: %v", err)
	}
}

func TestObject_MimeType(t *testing.T) {
	f := here(t, t.TempDir()).(*Fs)
	for name, want := range map[string]string{"a.txt": "text/plain; charset=utf-8", "vm": "application/octet-stream"} {
		if got := fs.MimeType(t.Context(), f.newObject(name, wire.Entry{Kind: wire.KindFile})); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := f.newObject("a.txt", wire.Entry{Kind: wire.KindBlock}).MimeType(t.Context()); got != "application/octet-stream" {
		t.Errorf("device: %s", got)
	}
}

func TestObject_ID(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	write(t, dir+"/image", []byte("x"))
	write(t, dir+"/other", []byte("x"))
	if err := os.Symlink("image", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	id := func(f fs.Fs, name string) string { return find(t, f, name).(fs.IDer).ID() }
	if a, b := id(f, "image"), id(f, "link"); a == "" || a != b {
		t.Errorf("%q and %q", a, b)
	}
	if a, b := id(f, "image"), id(newFs(t, "blockdev,host=localhost:"+dir), "image"); a != b {
		t.Errorf("%q and %q", a, b)
	}
	if id(f, "image") == id(f, "other") {
		t.Error("two files have one ID")
	}
	entries, err := f.List(t.Context(), "")
	if err != nil || entries[0].(fs.IDer).ID() != id(f, "image") {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestObject_Nil(t *testing.T) {
	if s := (*Object)(nil).String(); s != "<nil>" {
		t.Error(s)
	}
}

func TestClassify(t *testing.T) {
	const retry, noRetry, noLowLevel = "retry", "no retry", "no low level retry"
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{io.ErrClosedPipe, ""},
		{context.Canceled, ""},
		{&host.Error{Retryable: true, Err: io.EOF}, retry},
		{&host.Error{Retryable: true, Err: wire.CodeRefused}, retry},
		{&host.Error{Kind: host.KindHostKey, Err: io.EOF}, noRetry},
		{wire.Errorf(wire.CodeNotFound, "x"), ""},
		{wire.Errorf(wire.CodeIsDir, "x"), ""},
		{wire.Errorf(wire.CodeNotEmpty, "x"), ""},
		{wire.Errorf(wire.CodeCancelled, "x"), ""},
		{wire.Errorf(wire.CodeNotFile, "x"), noRetry},
		{wire.Errorf(wire.CodeBusy, "x"), noRetry},
		{wire.Errorf(wire.CodeReadOnly, "x"), noRetry},
		{wire.Errorf(wire.CodeRefused, "x"), noRetry},
		{wire.Errorf(wire.CodeSizeMismatch, "x"), noRetry},
		{wire.Errorf(wire.CodeNoSpace, "x"), noRetry},
		{wire.Errorf(wire.CodePermission, "x"), noRetry},
		{wire.Errorf(wire.CodeUnsupported, "x"), noRetry},
		{wire.Errorf(wire.CodeVersion, "x"), noRetry},
		{wire.Errorf(999, "x"), noRetry},
		{wire.Errorf(wire.CodeIO, "x"), noLowLevel},
		{wire.Errorf(wire.CodeCorrupted, "x"), noLowLevel},
		{wire.Errorf(wire.CodeInternal, "x"), noLowLevel},
		{wire.Errorf(wire.CodeProtocol, "x"), noLowLevel},
		{wire.Errorf(wire.CodeSource, "x"), noLowLevel},
	} {
		got := classify(c.err)
		if !errors.Is(got, c.err) {
			t.Errorf("%v: lost in %v", c.err, got)
		}
		for class, is := range map[string]bool{
			retry: fserrors.IsRetryError(got), noRetry: fserrors.IsNoRetryError(got), noLowLevel: fserrors.IsNoLowLevelRetryError(got),
		} {
			if is != (class == c.want) {
				t.Errorf("%v (%T): %s is %v, want class %q", c.err, c.err, class, is, c.want)
			}
		}
	}
}

func TestTicks_next(t *testing.T) {
	c := ticks{last: time.Now().Add(time.Hour)} // a clock that does not move
	a, b := c.next(), c.next()
	if !b.After(a) {
		t.Errorf("%v, then %v", a, b)
	}
}
