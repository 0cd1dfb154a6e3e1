package helper

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// raceTime is enough for a path that is resolved twice to be caught many times.
const raceTime = 500 * time.Millisecond

// swap makes path lead to one target and to the other in turn, until the test ends.
func swap(t *testing.T, path string, targets ...string) {
	t.Helper()
	if err := os.Symlink(targets[0], path); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			fresh := path + "~"
			if err := os.Symlink(targets[i%len(targets)], fresh); err != nil {
				t.Error(err)
				return
			}
			if err := os.Rename(fresh, path); err != nil {
				t.Error(err)
				return
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		swapping.Wait()
	})
}

// race opens path again and again while it changes, until it was opened often enough. It returns what was opened
// other than wanted.
func race(t *testing.T, open func() (*device.Object, error), judge func(*device.Object)) {
	t.Helper()
	opened := 0
	for end := time.Now().Add(raceTime); time.Now().Before(end); {
		o, err := open()
		if err != nil {
			continue
		}
		opened++
		judge(o)
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if opened == 0 {
		t.Error("nothing was ever opened")
	}
}

// A link that changes between the look and the opening leads to nothing that is not allowed.
func TestPolicy_Race(t *testing.T) {
	root := tree(t, "in/", "in/mine", "secret")
	secret := []byte("a secret")
	if err := os.WriteFile(root+"/secret", secret, 0o600); err != nil {
		t.Fatal(err)
	}
	p := Policy{Allow: []string{root + "/in"}}
	path := root + "/in/link"
	swap(t, path, root+"/in/mine", root+"/secret")
	race(t, func() (*device.Object, error) {
		checked, err := p.check(path, false)
		if err != nil {
			return nil, err
		}
		return device.OpenReadGuarded(checked, p.guard(checked))
	}, func(o *device.Object) {
		got := make([]byte, len(secret))
		if _, err := o.ReadAt(got, 0); err == nil && bytes.Equal(got, secret) {
			t.Fatal("the secret was read")
		}
	})
	race(t, func() (*device.Object, error) {
		checked, err := p.check(path, true)
		if err != nil {
			return nil, err
		}
		return device.OpenWrite(checked, device.WriteOptions{Size: 100, Guard: p.guard(checked)})
	}, func(*device.Object) {})
	if got, err := os.ReadFile(root + "/secret"); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("the secret was changed: %q, %v", got, err)
	}
}

// The same with the directory of a new image: nothing stays where nothing may be made.
func TestPolicy_Race_new(t *testing.T) {
	root := tree(t, "in/", "in/real/", "out/")
	p := Policy{Allow: []string{root + "/in"}}
	swap(t, root+"/in/dir", root+"/in/real", root+"/out")
	race(t, func() (*device.Object, error) {
		checked, err := p.check(root+"/in/dir/image", true)
		if err != nil {
			return nil, err
		}
		return device.OpenWrite(checked, device.WriteOptions{Size: 100, Guard: p.guard(checked)})
	}, func(*device.Object) {})
	left, err := filepath.Glob(root + "/out/.*")
	if all, _ := filepath.Glob(root + "/out/*"); err != nil || len(left)+len(all) > 0 {
		t.Errorf("%v %v, %v", left, all, err)
	}
}

// A link to a device may change; its directory must be allowed all the same.
func TestPolicy_Race_device(t *testing.T) {
	require.Need(t, require.Root, require.Loop)
	allowed, other := harness.Loop(t, 1<<20), harness.Loop(t, 2<<20)
	root := tree(t, "in/", "out/", "in/vm -> "+allowed.Path, "out/vm -> "+other.Path)
	p := Policy{Allow: []string{root + "/in"}}
	if err := os.Mkdir(root+"/in/real", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(allowed.Path, root+"/in/real/vm"); err != nil {
		t.Fatal(err)
	}
	swap(t, root+"/in/dir", root+"/in/real", root+"/out")
	race(t, func() (*device.Object, error) {
		checked, err := p.check(root+"/in/dir/vm", false)
		if err != nil {
			return nil, err
		}
		return device.OpenReadGuarded(checked, p.guard(checked))
	}, func(o *device.Object) {
		if o.Size() != 1<<20 {
			t.Fatal("the other device was opened")
		}
	})
}

// Nothing is removed where it may not be.
func TestPolicy_Race_remove(t *testing.T) {
	root := tree(t, "in/", "in/real/", "out/", "out/image", "out/dir/")
	p := Policy{Allow: []string{root + "/in"}}
	swap(t, root+"/in/dir", root+"/in/real", root+"/out")
	removed := 0
	for end := time.Now().Add(raceTime); time.Now().Before(end); {
		if err := os.WriteFile(root+"/in/real/image", []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(root+"/in/real/dir", 0o755); err != nil {
			t.Fatal(err)
		}
		for name, remove := range map[string]func(string) error{"/image": device.Remove, "/dir": device.Rmdir} {
			checked, err := p.check(root+"/in/dir"+name, true)
			if err == nil {
				err = p.at(checked, remove)
			}
			if err == nil {
				removed++
			}
		}
	}
	if removed == 0 {
		t.Error("nothing was ever removed")
	}
	for _, name := range []string{"/image", "/dir"} {
		if _, err := os.Stat(root + "/out" + name); err != nil {
			t.Error(err)
		}
	}
}

// What may be opened and removed still is: through links, as a new image of one name that is allowed.
func TestPolicy_Guard(t *testing.T) {
	root := tree(t, "in/", "in/image", "in/link -> image", "alias -> in")
	for _, c := range []struct{ allow, path string }{
		{"/in", "/in/image"}, {"/in", "/in/link"}, {"/in/image", "/in/image"}, {"/alias", "/alias/image"},
		{"/in/link", "/in/link"}, {"/in/new", "/in/new"}, {"/in", "/in/deep/new"}, {"/alias", "/alias/new2"},
	} {
		s := connect(t, Policy{Allow: []string{root + c.allow}})
		s.call(openWrite(root+c.path, 100), new(wire.Opened))
		s.call(&wire.Close{Commit: true}, nil)
		remove := new(wire.Remove)
		remove.Path = root + c.path
		s.call(remove, nil)
		s.hangUp()
		if err := os.WriteFile(root+"/in/image", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("image", root+"/in/link"); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
}
