package blockdev

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	_ "github.com/rclone/rclone/backend/crypt"
	_ "github.com/rclone/rclone/backend/hasher"
	_ "github.com/rclone/rclone/backend/union"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config/obscure"
	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/fs/hash"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

func TestFs_Copy(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	src, dst := here(t, from), newFs(t, "blockdev,host=localhost:"+to)
	copier := dst.Features().Copy
	contents := edges.Contents()
	for i, size := range edges.Sizes() {
		for j := range edges.Targets(nil) {
			data := contents[(i+j)%len(contents)].Make(size, 1)
			target := edges.Targets(data)[j]
			name := strconv.Itoa(size) + target.Name
			write(t, from+"/"+name, data)
			if target.Data != nil {
				write(t, to+"/"+name, target.Data)
			}
			in := find(t, src, name)
			o, err := copier(t.Context(), in, name)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			same(t, to+"/"+name, data)
			if o.Size() != int64(size) || !o.ModTime(t.Context()).Equal(in.ModTime(t.Context())) || o.Fs() != fs.Info(dst) {
				t.Errorf("%s: %d bytes, %v", name, o.Size(), o.ModTime(t.Context()))
			}
		}
	}
	if _, err := copier(t.Context(), nil, "x"); !errors.Is(err, fs.ErrorCantCopy) {
		t.Errorf("foreign object: %v", err)
	}
}

// More than one stripe, with as many streams and with one.
func TestFs_Copy_Stripes(t *testing.T) {
	const size = 2*block.StripeSize + 12345
	for _, streams := range []string{"1", "3", "0"} {
		from, to := t.TempDir(), t.TempDir()
		f := here(t, from)
		dst := newFs(t, "blockdev,streams="+streams+":localhost"+to)
		file, err := os.Create(from + "/image")
		if err != nil {
			t.Fatal(err)
		}
		set := []int64{0, block.StripeSize - 1, block.StripeSize, 2*block.StripeSize - 4096, size - 1}
		for _, at := range set {
			if _, err := file.WriteAt([]byte{1}, at); err != nil {
				t.Fatal(err)
			}
		}
		if err := file.Truncate(size); err != nil {
			t.Fatal(err)
		}
		file.Close()
		for range 2 {
			if _, err := dst.Features().Copy(t.Context(), find(t, f, "image"), "image"); err != nil {
				t.Fatal(err)
			}
		}
		// What takes no storage is zero, so a few bytes tell all.
		if n := harness.Allocated(t, to+"/image"); n > int64(len(set))*2*block.DefaultSize {
			t.Errorf("%d bytes of storage for five bytes", n)
		}
		o := find(t, dst, "image")
		if o.Size() != size {
			t.Errorf("%d bytes", o.Size())
		}
		for _, at := range set {
			if got := contents(t, o, &fs.RangeOption{Start: at, End: at}); !bytes.Equal(got, []byte{1}) {
				t.Errorf("%v at %d", got, at)
			}
		}
	}
}

// Two names of one object are never copied onto each other.
func TestFs_Copy_Itself(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	data := edges.Contents()[1].Make(1<<20, 1)
	write(t, dir+"/image", data)
	if err := os.Symlink("image", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(dir+"/image", dir+"/hard"); err != nil {
		t.Fatal(err)
	}
	other := newFs(t, "blockdev,host=localhost:"+dir)
	for _, c := range []struct {
		dst  fs.Fs
		name string
	}{{f, "image"}, {f, "link"}, {f, "hard"}, {other, "image"}, {other, "link"}} {
		_, err := c.dst.Features().Copy(t.Context(), find(t, f, "image"), c.name)
		if !fserrors.IsNoRetryError(err) || !strings.Contains(err.Error(), "same file") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	local := newFs(t, dir)
	_, err := operations.Copy(t.Context(), f, find(t, f, "link"), "link", find(t, local, "image"))
	if !fserrors.IsNoRetryError(err) {
		t.Errorf("from local: %v", err)
	}
	same(t, dir+"/image", data)
}

// Through rclone: a local source is read past its holes, others as they come, and all are counted whole.
func TestOperations_Copy(t *testing.T) {
	leakless(t)
	const size = 24 << 20
	path := harness.Image{Size: size, Hole: 0.5, Text: 0.2, Area: 2 << 20, Seed: 3}.File(t)
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	local := newFs(t, filepath.Dir(path)+"/")
	crypt := ":crypt,remote=':memory:bucket',password=" + obscure.MustObscure("secret") + ":"
	for _, c := range []struct {
		name, remote string
		holes        bool
	}{
		{"local", filepath.Dir(path) + "/", true},
		{"memory", ":memory:bucket/", false},
		{"crypt", crypt, false},
		{"blockdev", "blockdev:localhost" + filepath.Dir(path) + "/", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := newFs(t, c.remote)
			if !c.holes {
				if _, err := operations.Copy(t.Context(), src, nil, "disk.img", find(t, local, "disk.img")); err != nil {
					t.Fatal(err)
				}
			}
			to := t.TempDir()
			dst := newFs(t, "blockdev:localhost"+to)
			log := listen(t)
			ctx, totals := stats(t)
			var o fs.Object
			for round, name := range []string{"disk.img", "disk.img", "renamed.img"} {
				before := totals.GetBytes()
				if o, err = operations.Copy(ctx, dst, o, name, find(t, src, "disk.img")); err != nil {
					t.Fatal(err)
				}
				same(t, to+"/"+name, want)
				if n := totals.GetBytes() - before; n != size {
					t.Errorf("round %d: %d bytes counted, want %d", round, n, size)
				}
				holes, read := log.counter("holes"), log.counter("sourceRead")
				if holes+read != size || (holes > 0) != c.holes {
					t.Errorf("round %d: %d bytes of holes, %d read", round, holes, read)
				}
				if changed := log.counter("equal"); round == 1 && changed != size {
					t.Errorf("the second copy found %d bytes equal", changed)
				}
				if round == 1 {
					o = nil
				}
			}
			if totals.GetErrors() != 0 {
				t.Errorf("%d errors", totals.GetErrors())
			}
		})
	}
}

// What stands between rclone and us must see every byte.
func TestUpdate_ThroughWrappers(t *testing.T) {
	leakless(t)
	dir, to, second := t.TempDir(), t.TempDir(), t.TempDir()
	data := edges.Contents()[2].Make(5<<20+3, 1)
	write(t, dir+"/image", data)
	src := find(t, newFs(t, dir), "image")
	t.Run("hasher", func(t *testing.T) {
		f := newFs(t, ":hasher,remote='blockdev:localhost"+to+"',hashes=md5,max_age=off:")
		o, err := operations.Copy(t.Context(), f, nil, "image", src)
		if err != nil {
			t.Fatal(err)
		}
		sum := md5.Sum(data)
		if got, err := o.Hash(t.Context(), hash.MD5); err != nil || got != hex.EncodeToString(sum[:]) {
			t.Errorf("%s, %v", got, err)
		}
		same(t, to+"/image", data)
		_ = f.Features().Shutdown(t.Context())
	})
	t.Run("union", func(t *testing.T) {
		f := newFs(t, ":union,upstreams='blockdev:localhost"+to+" "+second+"',create_policy=all:")
		if _, err := operations.Copy(t.Context(), f, nil, "union", src); err != nil {
			t.Fatal(err)
		}
		same(t, to+"/union", data)
		same(t, second+"/union", data)
	})
}

func TestUpdate_Cancel(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	in := &cancelling{bytes.NewReader(make([]byte, 64<<20)), cancel}
	if _, err := f.Put(ctx, in, info("image", 64<<20)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := f.Put(t.Context(), bytes.NewReader([]byte("x")), info("image", 1)); err != nil {
		t.Error(err)
	}
	same(t, dir+"/image", []byte("x"))
}

type cancelling struct {
	r      *bytes.Reader
	cancel func()
}

func (c *cancelling) Read(p []byte) (int, error) {
	if c.r.Len() < 60<<20 {
		c.cancel()
	}
	return c.r.Read(p)
}

// A pull into any other remote, also with rclone's four ranges at once.
func TestOperations_Pull(t *testing.T) {
	leakless(t)
	path := harness.Image{Size: 20<<20 + 99, Hole: 0.3, Zero: 0.3, Seed: 4}.File(t)
	f := newFs(t, "blockdev:localhost"+filepath.Dir(path)+"/")
	ctx, ci := fs.AddConfig(t.Context())
	ci.MultiThreadCutoff, ci.MultiThreadChunkSize, ci.MultiThreadSet = 1, 3<<20, true
	for _, streams := range []int{1, 4} {
		ci.MultiThreadStreams = streams
		to := t.TempDir()
		if _, err := operations.Copy(ctx, newFs(t, to), nil, "image", find(t, f, "disk.img")); err != nil {
			t.Fatal(err)
		}
		harness.Same(t, path, to+"/image")
	}
}
