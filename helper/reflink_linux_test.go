package helper

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// mount makes a file system and mounts it until the test ends.
func mount(t *testing.T, mkfs ...string) (dir string) {
	t.Helper()
	require.Need(t, require.Root, require.Loop, require.Mount)
	dev := harness.Loop(t, 320<<20).Path
	if _, err := require.Program(mkfs[0]); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for _, args := range [][]string{append(mkfs, dev), {"mount", dev, dir}} {
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

// free is the space of a file system, in bytes.
func free(t *testing.T, dir string) int64 {
	t.Helper()
	unix.Sync()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bfree) * int64(st.Bsize)
}

// An image is replaced by a changed clone, which shares what did not change. A copy that ends early, wherever, leaves
// the image as it was, and the next one goes on with the clone.
func TestServe_Reflink(t *testing.T) {
	for name, mkfs := range map[string][]string{"xfs": {"mkfs.xfs", "-q", "-f"}, "btrfs": {"mkfs.btrfs", "-q", "-f"}} {
		t.Run(name, func(t *testing.T) {
			dir := mount(t, mkfs...)
			const size = 40<<20 + 700
			old := make([]byte, size)
			for i := range old {
				old[i] = byte(i*7) ^ byte(i>>9)
			}
			for _, grown := range []int{0, 3 << 20, -3 << 20} {
				path := filepath.Join(dir, "image")
				if err := os.WriteFile(path, old, 0o640); err != nil {
					t.Fatal(err)
				}
				if err := os.Chown(path, 1234, 4321); err != nil {
					t.Fatal(err)
				}
				link := filepath.Join(dir, "link")
				if err := os.Symlink("image", link); err != nil && !errors.Is(err, os.ErrExist) {
					t.Fatal(err)
				}
				source := append(bytes.Clone(old[:size+min(grown, 0)]), make([]byte, max(grown, 0))...)
				copy(source[20<<20:21<<20], bytes.Repeat([]byte("new "), 1<<18))
				before := free(t, dir)
				req := openWrite(link, int64(len(source)))
				req.Apply = wire.ApplyReflink
				ends := []func(c *client){
					func(c *client) {},
					func(c *client) { c.sends(source) },
					func(c *client) { c.sends(source); c.call(&wire.Close{}, nil) },
				}
				for _, end := range ends {
					c := connect(t, Policy{})
					var o wire.Opened
					c.call(req, &o)
					if !strings.HasSuffix(o.Path, ".partial") || o.Size != int64(len(source)) {
						t.Errorf("opened %+v", o)
					}
					c.fails(wire.CodeProtocol, req)
					end(c)
					c.hangUp()
					holds(t, "ended early", path, old)
				}
				c := connect(t, Policy{})
				c.call(req, new(wire.Opened))
				other := connect(t, Policy{})
				other.fails(wire.CodeBusy, openWrite(path, size))
				other.hangUp()
				if err := c.sends(source); err != nil {
					t.Fatal(err)
				}
				holds(t, "before it is complete", path, old)
				c.call(&wire.Close{Commit: true}, nil)
				c.hangUp()
				holds(t, "complete", path, source)
				var st unix.Stat_t
				if err := unix.Lstat(path, &st); err != nil || st.Uid != 1234 || st.Gid != 4321 || st.Mode&0o777 != 0o640 {
					t.Errorf("owner %d:%d, mode %o, %v", st.Uid, st.Gid, st.Mode, err)
				}
				if fi, err := os.Lstat(link); err != nil || fi.Mode()&os.ModeSymlink == 0 {
					t.Errorf("the link is now %v, %v", fi, err)
				}
				if used := before - free(t, dir); used > 8<<20 {
					t.Errorf("%d bytes more are used", used)
				}
				if left, err := filepath.Glob(dir + "/.blockdev-*"); err != nil || len(left) > 0 {
					t.Errorf("left: %v, %v", left, err)
				}
			}
		})
	}
}

// Where nothing can be cloned nothing is changed; and an image that was replaced meanwhile is not replaced again.
func TestServe_ReflinkRefused(t *testing.T) {
	content := mixed(1<<20, 1)
	dir := mount(t, "mkfs.ext4", "-q", "-F")
	path := filepath.Join(dir, "image")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	c := connect(t, Policy{})
	req := openWrite(path, 1<<20)
	req.Apply = wire.ApplyReflink
	c.fails(wire.CodeUnsupported, req)
	holds(t, "ext4", path, content)
	if left, err := filepath.Glob(dir + "/.blockdev-*"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	dev := openWrite(harness.Loop(t, 1<<20).Path, 1<<20)
	dev.Apply = wire.ApplyReflink
	c.fails(wire.CodeUnsupported, dev)

	path = filepath.Join(mount(t, "mkfs.xfs", "-q", "-f"), "image")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	req.Path = path
	c.call(req, new(wire.Opened))
	if err := c.sends(mixed(1<<20, 2)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.fails(wire.CodeRefused, &wire.Close{Commit: true})
	holds(t, "replaced", path, []byte("another"))
	c.hangUp()
}

// What is not copied is what the image has, whatever is there under the name of its clone. Only the transfer that made a
// clone goes on with it, as long as the image is the same.
func TestServe_ReflinkStale(t *testing.T) {
	const size = 3 << 20
	path := filepath.Join(mount(t, "mkfs.xfs", "-q", "-f"), "image")
	old, source := mixed(size, 1), mixed(1<<20, 2)
	want := append(bytes.Clone(source), old[1<<20:]...)
	open := func(c *client, transfer byte) (o wire.Opened) {
		req := openWrite(path, 1<<20)
		req.Apply, req.IgnoreSize, req.Transfer = wire.ApplyReflink, true, wire.Claim{transfer}
		c.call(req, &o)
		return o
	}
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	c := connect(t, Policy{})
	left := open(c, 1)
	if err := c.sends(source); err != nil {
		t.Fatal(err)
	}
	c.hangUp()
	c = connect(t, Policy{})
	if again := open(c, 1); again.Entry.ID != left.Entry.ID {
		t.Errorf("the same transfer gets %s, and had %s", again.Entry.ID, left.Entry.ID)
	}
	holds(t, "gone on with", left.Path, want)
	c.hangUp()

	for i, spoil := range []func(){
		func() {},
		func() { os.WriteFile(left.Path, bytes.Repeat([]byte("stale"), size), 0o600) },
		func() { os.WriteFile(left.Path, nil, 0o600) },
	} {
		spoil()
		c := connect(t, Policy{})
		again := open(c, byte(2+i))
		if again.Entry.ID == left.Entry.ID {
			t.Errorf("%d: another transfer goes on with %s", i, again.Entry.ID)
		}
		left = again
		holds(t, "made anew", left.Path, old)
		c.hangUp()
	}
	copy(old[2<<20:], "changed meanwhile")
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	c = connect(t, Policy{})
	open(c, 4)
	holds(t, "of the changed image", left.Path, old)
	if err := c.sends(source); err != nil {
		t.Fatal(err)
	}
	c.call(&wire.Close{Commit: true}, nil)
	c.hangUp()
	holds(t, "complete", path, append(bytes.Clone(source), old[1<<20:]...))
	if n, err := unix.Llistxattr(path, nil); err != nil || n > 0 {
		t.Errorf("%d bytes of attributes, %v", n, err)
	}
}

// Who may not give the clone the owner of the image is told so before anything is copied.
func TestOpenWrite_ReflinkOwner(t *testing.T) {
	dir := mount(t, "mkfs.xfs", "-q", "-f")
	path := filepath.Join(dir, "image")
	for _, err := range []error{os.WriteFile(path, mixed(1<<20, 1), 0o600), os.Chmod(path, 0o666), os.Chmod(dir, 0o777), os.Chmod(filepath.Dir(dir), 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Setfsuid(1234); err != nil {
		t.Fatal(err)
	}
	defer unix.Setfsuid(0)
	o, err := device.OpenWrite(path, device.WriteOptions{Size: 1 << 20, Reflink: true})
	if !errors.Is(err, device.ErrRefused) {
		t.Errorf("%v, %v", o, err)
	}
	if left, err := filepath.Glob(dir + "/.blockdev-*"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
