package blockdev

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// loop makes a device with that content, and the Fs of /dev.
func loop(t *testing.T, data []byte) (*harness.Device, fs.Fs, fs.Object) {
	t.Helper()
	require.Need(t, require.Root, require.Loop)
	leakless(t)
	backing := filepath.Join(t.TempDir(), "backing")
	write(t, backing, data)
	d := harness.LoopOn(t, backing)
	f := newFs(t, "blockdev:localhost/dev/")
	return d, f, find(t, f, filepath.Base(d.Path))
}

// holds fails unless the device has that content, read past the cache.
func holds(t *testing.T, d *harness.Device, want []byte) {
	t.Helper()
	if !bytes.Equal(harness.ReadBack(t, d.Path), want) {
		t.Errorf("%s has other content", d.Path)
	}
}

func TestDevice(t *testing.T) {
	data := edges.Contents()[2].Make(3<<20+512, 1)
	before := time.Now().Round(0)
	d, f, o := loop(t, data)
	if o.Size() != int64(len(data)) || !o.Storable() || o.(fs.IDer).ID() == "" {
		t.Errorf("%d bytes", o.Size())
	}
	at := o.ModTime(t.Context())
	if at.Before(before) || at.After(time.Now()) || !find(t, f, o.Remote()).ModTime(t.Context()).After(at) {
		t.Errorf("time %v", at)
	}
	if err := o.SetModTime(t.Context(), when); err != nil || !o.ModTime(t.Context()).Equal(at) {
		t.Errorf("set time: %v, %v", err, o.ModTime(t.Context()))
	}
	if got := contents(t, o); !bytes.Equal(got, data) {
		t.Error("content differs")
	}
	entries, err := f.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	listed := false
	for _, e := range entries {
		if e.Remote() == "null" {
			t.Error("a character device is listed")
		}
		listed = listed || e.Remote() == o.Remote() && e.Size() == o.Size()
	}
	if !listed {
		t.Errorf("%s is not listed", d.Path)
	}
	for _, next := range [][]byte{edges.Contents()[1].Make(len(data), 2), data, make([]byte, len(data))} {
		if err := o.Update(t.Context(), bytes.NewReader(next), info("x", int64(len(next)))); err != nil {
			t.Fatal(err)
		}
		holds(t, d, next)
		if _, err := put(f, o.Remote(), data); err != nil { // as with --no-check-dest
			t.Fatal(err)
		}
		holds(t, d, data)
	}
}

// What rclone does after its own failures must not hurt a device.
func TestDevice_Remove(t *testing.T) {
	data := edges.Contents()[1].Make(1<<20, 1)
	d, f, o := loop(t, data)
	bare := f.(*Fs).newObject(o.Remote(), wire.Entry{}) // one that does not know what it is
	for _, o := range []fs.Object{o, bare} {
		if err := o.Remove(t.Context()); !fserrors.IsNoRetryError(err) || !strings.Contains(err.Error(), o.Remote()) {
			t.Errorf("remove: %v", err)
		}
	}
	if err := f.Rmdir(t.Context(), o.Remote()); err == nil {
		t.Error("rmdir of a device")
	}
	if err := f.Mkdir(t.Context(), "blockdev-test/x"); !fserrors.IsNoRetryError(err) {
		t.Errorf("mkdir: %v", err)
	}
	if st, err := os.Stat(d.Path); err != nil || st.Mode()&os.ModeDevice == 0 {
		t.Fatalf("%v, %v", st, err)
	}
	holds(t, d, data)
}

// A name under /dev that is not there is a typing error, not a file in memory.
func TestDevice_Absent(t *testing.T) {
	require.Need(t, require.Root)
	leakless(t)
	f := newFs(t, "blockdev:localhost/dev/")
	for _, name := range []string{"blockdev-none", "blockdev-none/deeper", "disk/by-id/blockdev-none"} {
		o, err := put(f, name, []byte("data"))
		if o != nil || !fserrors.IsNoRetryError(err) || !strings.Contains(err.Error(), "/dev/"+name) {
			t.Errorf("%s: %v, %v", name, o, err)
		}
		if _, err := os.Lstat("/dev/" + name); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	if _, err := os.Lstat("/dev/blockdev-none"); err == nil {
		t.Error("a directory was made")
	}
}

// Sizes are compared before the first write. That writing would go through is shown by the last case.
func TestDevice_Size(t *testing.T) {
	old := edges.Contents()[1].Make(2<<20, 1)
	d, f, o := loop(t, old)
	dir := t.TempDir()
	for _, size := range []int{0, 1, 1 << 20, 2<<20 - 1, 2<<20 + 1, 3 << 20} {
		data := edges.Contents()[1].Make(size, 2)
		write(t, dir+"/image", data)
		image := find(t, newFs(t, "blockdev:localhost"+dir), "image")
		for name, try := range map[string]func() error{
			"update": func() error { return o.Update(t.Context(), bytes.NewReader(data), info("x", int64(size))) },
			"put":    func() error { _, err := put(f, o.Remote(), data); return err },
			"copy":   func() error { _, err := f.Features().Copy(t.Context(), image, o.Remote()); return err },
			"rclone": func() error {
				_, err := operations.Copy(t.Context(), f, o, o.Remote(), find(t, newFs(t, dir), "image"))
				return err
			},
		} {
			err := try()
			if !errors.Is(err, wire.CodeSizeMismatch) || !fserrors.IsNoRetryError(err) || !strings.Contains(err.Error(), d.Path) {
				t.Errorf("%s of %d bytes: %v", name, size, err)
			}
			holds(t, d, old)
		}
	}
	ctx, ci := fs.AddConfig(context.Background())
	ci.IgnoreSize = true
	log := listen(t)
	small := edges.Contents()[1].Make(1<<20+512, 3)
	if err := o.Update(ctx, bytes.NewReader(small), info("x", int64(len(small)))); err != nil {
		t.Error(err)
	}
	holds(t, d, append(bytes.Clone(small), old[len(small):]...))
	if !strings.Contains(log.text(), "only the first 1049088 bytes are synced") {
		t.Errorf("it was not said that the end is kept: %s", log.text())
	}
	large := edges.Contents()[1].Make(3<<20, 4)
	if err := o.Update(ctx, bytes.NewReader(large), info("x", int64(len(large)))); err != nil {
		t.Error(err)
	}
	holds(t, d, large[:2<<20])
	if !strings.Contains(log.text(), "only the first 2097152 of 3145728 bytes") {
		t.Errorf("it was not said that the source does not fit: %s", log.text())
	}
}

// A short source is an error on a device, too.
func TestDevice_ShortSource(t *testing.T) {
	d, _, o := loop(t, make([]byte, 2<<20))
	for _, n := range []int{0, 1 << 20, 2<<20 - 1, 2<<20 + 1} {
		data := edges.Contents()[1].Make(n, 1)
		if err := o.Update(t.Context(), bytes.NewReader(data), info("x", 2<<20)); !errors.Is(err, wire.CodeSource) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if st, err := os.Stat(d.Path); err != nil || st.Mode()&os.ModeDevice == 0 {
		t.Errorf("%v, %v", st, err)
	}
}

func TestDevice_Mounted(t *testing.T) {
	require.Need(t, require.Mount, require.Mkfs)
	d, f, o := loop(t, make([]byte, 4<<20))
	mnt := t.TempDir()
	// What the kernel writes by itself some time after mounting would be taken for ours.
	settled := [][]string{{"mkfs.ext4", "-q", "-E", "lazy_itable_init=0", d.Path}, {"mount", "-o", "noinit_itable", d.Path, mnt}}
	for _, argv := range settled {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v %s", argv, err, out)
		}
	}
	defer func() {
		if out, err := exec.Command("umount", mnt).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}()
	data := edges.Contents()[1].Make(4<<20, 1)
	old := harness.ReadBack(t, d.Path)
	err := o.Update(t.Context(), bytes.NewReader(data), info("x", 4<<20))
	if !errors.Is(err, wire.CodeBusy) || !fserrors.IsNoRetryError(err) || !strings.Contains(err.Error(), mnt) || !strings.Contains(err.Error(), d.Path) {
		t.Errorf("got %v", err)
	}
	holds(t, d, old)
	// Force is for the device it names.
	wrong := newFs(t, "blockdev,force=/dev/blockdev-other:localhost/dev/")
	if _, err := put(wrong, o.Remote(), data); !errors.Is(err, wire.CodeBusy) {
		t.Errorf("forced by another name: %v", err)
	}
	holds(t, d, old)
	// Reading works, and says that the image may be torn.
	log := listen(t)
	if got := contents(t, find(t, f, o.Remote())); len(got) != 4<<20 {
		t.Errorf("%d bytes", len(got))
	}
	if !strings.Contains(log.text(), "mounted") {
		t.Errorf("logged %s", log.text())
	}
	forced := newFs(t, "blockdev,force="+d.Path+":localhost/dev/")
	if _, err := put(forced, o.Remote(), old); err != nil {
		t.Errorf("forced: %v", err)
	}
}

func TestDevice_Warns(t *testing.T) {
	_, _, o := loop(t, make([]byte, 1<<20))
	for name, set := range map[string]func(ci *fs.ConfigInfo){
		"--update":          func(ci *fs.ConfigInfo) { ci.UpdateOlder = true },
		"--size-only":       func(ci *fs.ConfigInfo) { ci.SizeOnly = true },
		"--ignore-existing": func(ci *fs.ConfigInfo) { ci.IgnoreExisting = true },
		"--modify-window":   func(ci *fs.ConfigInfo) { ci.ModifyWindow = fs.Duration(2 * time.Second) },
		"nothing":           func(ci *fs.ConfigInfo) {},
	} {
		log := listen(t)
		ctx, ci := fs.AddConfig(t.Context())
		set(ci)
		f, err := fs.NewFs(ctx, "blockdev:localhost/dev/")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := f.NewObject(ctx, o.Remote()); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(log.text(), "may skip"); n > 1 || (n == 1) != (name != "nothing") || n == 1 && !strings.Contains(log.text(), name) {
			t.Errorf("%s: warned %d times: %s", name, n, log.text())
		}
	}
}

// Devices in both directions, through rclone and by their other names.
func TestDevice_Copy(t *testing.T) {
	data := edges.Contents()[2].Make(3<<20, 1)
	d, f, o := loop(t, data)
	e, _, other := loop(t, make([]byte, len(data)))
	if _, err := operations.Copy(t.Context(), f, other, other.Remote(), o); err != nil {
		t.Fatal(err)
	}
	holds(t, e, data)
	link := filepath.Join(t.TempDir(), "by-name")
	if err := os.Symlink(d.Path, link); err != nil {
		t.Fatal(err)
	}
	named := newFs(t, "blockdev:localhost"+filepath.Dir(link)+"/")
	if id := find(t, named, "by-name").(fs.IDer).ID(); id != o.(fs.IDer).ID() {
		t.Errorf("%q and %q", id, o.(fs.IDer).ID())
	}
	if _, err := f.Features().Copy(t.Context(), find(t, named, "by-name"), o.Remote()); !fserrors.IsNoRetryError(err) {
		t.Errorf("onto itself: %v", err)
	}
	holds(t, d, data)
}
