package helper

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// tree makes directories (ending in a slash), links ("name -> target") and files below a new directory.
func tree(t *testing.T, entries ...string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name, target, link := strings.Cut(e, " -> ")
		path := filepath.Join(root, name)
		switch {
		case link:
			err = os.Symlink(strings.ReplaceAll(target, "ROOT", root), path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		default:
			err = os.WriteFile(path, []byte("content"), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestPolicy_Allow(t *testing.T) {
	root := tree(t, "vg0/", "vg00/", "vg0/vm", "vg00/vm", "secret", "vg0/in -> vm", "vg0/out -> ROOT/secret",
		"vg0/dir -> ROOT/vg00", "vg0/up -> ..", "vg0/dangling -> ROOT/new", "vg0/loop -> loop", "alias -> vg0", "one")
	p := Policy{Allow: []string{root + "/vg0", root + "/one"}}
	for _, c := range []struct {
		path  string
		allow bool
	}{
		{root + "/vg0", true},
		{root + "/vg0/vm", true},
		{root + "/vg0//./vm", true},
		{root + "/vg0/missing", true},
		{root + "/vg0/missing/deep/down", true},
		{root + "/vg0/in", true},
		{root + "/one", true},
		{root + "/vg00/vm", false},
		{root + "/vg00", false},
		{root + "/vg", false},
		{root + "/onemore", false},
		{root + "/alias/vm", false}, // another name is not the one that was allowed
		{root + "/vg0/../secret", false},
		{root + "/vg0/../vg0/vm", true},
		{root + "/vg0/../../../../../../etc/passwd", false},
		{root, false},
		{"/", false},
		{"", false},
		{"vg0/vm", false},
		{"./vg0/vm", false},
		{"../vg0", false},
		{root + "/vg0/out", false},
		{root + "/vg0/dir", false},
		{root + "/vg0/dir/vm", false},
		{root + "/vg0/dir/new", false},
		{root + "/vg0/dir/new/deep", false},
		{root + "/vg0/up/secret", false},
		{root + "/vg0/up/new", false},
		{root + "/vg0/up/vg0/vm", true},
	} {
		_, err := p.check(c.path, true)
		if (err == nil) != c.allow {
			t.Errorf("%s: %v", c.path, err)
		}
		if err != nil && wireError(err).Code != wire.CodeRefused {
			t.Errorf("%s: code %d", c.path, wireError(err).Code)
		}
	}
	for _, everything := range []Policy{{}, {Allow: []string{"/"}}} {
		if _, err := everything.check(root+"/vg00/../secret", true); err != nil {
			t.Error(err)
		}
	}
}

// The directory that is allowed may itself be reached through a link.
func TestPolicy_AllowLink(t *testing.T) {
	root := tree(t, "real/", "real/vm", "link -> real", "other")
	for _, allow := range []string{"/link", "/link/"} {
		p := Policy{Allow: []string{root + allow}}
		for path, ok := range map[string]bool{"/link/vm": true, "/link/new": true, "/real/vm": false, "/other": false} {
			if _, err := p.check(root+path, false); (err == nil) != ok {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

// Names of devices are links; the directory that holds the link counts.
func TestPolicy_DeviceLinks(t *testing.T) {
	require.Need(t, require.Loop)
	d := harness.Loop(t, 1<<20)
	root := tree(t, "vg0/", "vg1/", "vg0/vm -> "+d.Path, "vg1/vm -> "+d.Path, "vg0/dev -> /dev")
	p := Policy{Allow: []string{root + "/vg0"}}
	for path, ok := range map[string]bool{
		root + "/vg0/vm":  true,
		root + "/vg1/vm":  false,
		d.Path:            false,
		root + "/vg0/dev": false,
		root + "/vg0/dev/" + filepath.Base(d.Path):   false,
		root + "/vg0/dev/disk/by-id/" + "not-there":  false,
		root + "/vg0/../vg1/vm":                      false,
		root + "/vg0/vm/../dev/" + "null":            false,
		root + "/vg0/vm/" + strings.Repeat("../", 9): false,
	} {
		if _, err := p.check(path, true); (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Every request that names a path obeys the policy.
func TestServe_Policy(t *testing.T) {
	root := tree(t, "in/", "out/", "in/image", "out/image")
	target := func(path string) []wire.Message {
		list, mkdir, rmdir, remove, space := new(wire.List), new(wire.Mkdir), new(wire.Rmdir), new(wire.Remove), new(wire.StatFS)
		setTime := new(wire.SetTime)
		for _, p := range []*string{&list.Path, &mkdir.Path, &rmdir.Path, &remove.Path, &space.Path, &setTime.Path} {
			*p = path
		}
		return []wire.Message{stat(path), describe(path), list, space, openRead(path), mkdir, rmdir, setTime, openWrite(path, 1), remove}
	}
	const reading = 5
	c := connect(t, Policy{Allow: []string{root + "/in"}})
	for _, path := range []string{root + "/out", root + "/out/image", root + "/in/../out/image", "in/image"} {
		for _, m := range target(path) {
			c.fails(wire.CodeRefused, m)
		}
	}
	c.hangUp()
	c = connect(t, Policy{ReadOnly: true})
	for i, m := range target(root + "/in/image")[:] {
		c.send(m)
		_, err := c.end()
		if readOnly := err != nil && wireError(err).Code == wire.CodeReadOnly; readOnly != (i >= reading) {
			t.Errorf("%T: %v", m, err)
		}
		if m.Type() == wire.TypeOpen && err == nil {
			c.call(&wire.Close{}, nil)
		}
	}
	if got, err := os.ReadFile(root + "/in/image"); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
	c.hangUp()
}
