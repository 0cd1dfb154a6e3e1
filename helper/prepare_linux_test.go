package helper

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// prepareOf asks for a snapshot of the kind "command".
func prepareOf(path, dir string, owner byte) *wire.Prepare {
	m := &wire.Prepare{Owner: wire.Claim{owner}, Kind: wire.SnapshotCommand, Take: []string{dir + "/take"}, Drop: []string{"rm", "-f", path + ".snap"}, Grace: 60000}
	m.Path = path
	return m
}

// disk is a directory with an image, and a program that copies it.
func disk(t *testing.T) (dir, path string) {
	t.Helper()
	dir = tree(t, "disk.img")
	t.Setenv("BLOCKDEV_STATE_DIR", dir+"/state")
	if err := os.WriteFile(dir+"/take", []byte("#!/bin/sh\ncp $BLOCKDEV_PATH $BLOCKDEV_PATH.snap; echo $BLOCKDEV_PATH.snap\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir, dir + "/disk.img"
}

// readAll reads what is open.
func (c *client) readAll(n int64) string {
	c.t.Helper()
	c.send(&wire.Read{Length: n, Window: n, Compress: wire.CompressOff})
	frames, err := c.end()
	if err != nil {
		c.t.Fatal(err)
	}
	text := ""
	for _, f := range frames {
		var m wire.Data
		if f.Type == wire.TypeData && f.Decode(&m) == nil {
			text += string(m.Data)
		}
	}
	return text
}

// What is open is the snapshot, under the name of the original, in every session that names the owner.
func TestServe_Prepare(t *testing.T) {
	dir, path := disk(t)
	c, other := connect(t, Policy{}), connect(t, Policy{})
	var p wire.Prepared
	c.call(prepareOf(path, dir, 1), &p)
	if p.Device != path+".snap" || p.Made == 0 {
		t.Errorf("%+v", p)
	}
	if err := os.WriteFile(path, []byte("CHANGED"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := prepareOf(path, dir, 1)
	again.Follow = true
	var q wire.Prepared
	other.call(again, &q)
	if q != p {
		t.Errorf("%+v and %+v", p, q)
	}
	for _, c := range []*client{c, other} {
		var o wire.Opened
		c.call(openRead(path), &o)
		if o.Path != path || o.Entry.Name != "disk.img" || o.Size != 7 {
			t.Errorf("%+v", o)
		}
		if got := c.readAll(7); got != "content" {
			t.Errorf("read %q", got)
		}
		c.call(&wire.Close{}, nil)
	}
	c.call(openRead(path), new(wire.Opened)) // after Close it is what is there
	if got := c.readAll(7); got != "CHANGED" {
		t.Errorf("read %q", got)
	}
	c.call(&wire.Close{}, nil)
	other.call(&wire.Conclude{Owner: wire.Claim{1}, Wait: true}, nil)
	c.fails(wire.CodeNotFound, again)
	if _, err := os.Stat(path + ".snap"); !errors.Is(err, os.ErrNotExist) {
		t.Error("the snapshot is left")
	}
	c.hangUp()
	other.hangUp()
}

// What a name leads to must be what the snapshot was taken of, and as large.
func TestServe_PrepareAnother(t *testing.T) {
	dir, path := disk(t)
	c := connect(t, Policy{})
	c.call(prepareOf(path, dir, 2), new(wire.Prepared))
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.fails(wire.CodeSource, openRead(path))
	if err := os.Rename(path+".old", path); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	c.fails(wire.CodeSource, openRead(path))
	c.call(&wire.Conclude{Owner: wire.Claim{2}, Failed: true, Wait: true}, nil)
	c.hangUp()
}

// A limited helper takes snapshots and runs programs only when it was told that it may.
func TestPolicy_Surroundings(t *testing.T) {
	dir, path := disk(t)
	clone := &wire.Prepare{Owner: wire.Claim{3}, Kind: wire.SnapshotReflink}
	clone.Path = path
	hook := &wire.Prepare{Owner: wire.Claim{4}, Before: []string{"true"}}
	hook.Path = path
	outside := prepareOf(path, dir, 5)
	outside.Group = []string{path, "/etc/passwd"}
	freeze := prepareOf(path, dir, 6)
	freeze.Freeze = []string{"/"}
	elsewhere := prepareOf("/etc/passwd", dir, 7)
	for _, p := range []Policy{{Allow: []string{dir}}, {ReadOnly: true}} {
		c := connect(t, p)
		for _, m := range []*wire.Prepare{prepareOf(path, dir, 1), clone, hook} {
			c.fails(wire.CodeRefused, m)
		}
		c.fails(wire.CodeRefused, &wire.Snapshots{})
		c.hangUp()
	}
	c := connect(t, Policy{Allow: []string{dir}, AllowHooks: true})
	c.call(prepareOf(path, dir, 8), new(wire.Prepared))
	c.call(&wire.Conclude{Owner: wire.Claim{8}, Wait: true}, nil)
	for _, m := range []*wire.Prepare{clone, outside, freeze, elsewhere} {
		c.fails(wire.CodeRefused, m)
	}
	c.hangUp()
	c = connect(t, Policy{Allow: []string{dir}, AllowSnapshots: true})
	for _, m := range []*wire.Prepare{prepareOf(path, dir, 9), hook} {
		c.fails(wire.CodeRefused, m)
	}
	clone.Freeze = []string{"/"}
	c.fails(wire.CodeRefused, clone)
	c.call(&wire.Snapshots{}, nil)
	c.hangUp()
}

// A limited helper freezes nothing but what is on the originals.
func TestPolicy_Freeze(t *testing.T) {
	require.Need(t, require.Root, require.Mount, require.Loop)
	d := harness.Loop(t, 1<<20)
	t.Setenv("BLOCKDEV_STATE_DIR", t.TempDir())
	point := smallDisk(t, 256<<10)
	m := &wire.Prepare{Owner: wire.Claim{1}, Kind: wire.SnapshotCommand, Take: []string{"echo", d.Path}, Drop: []string{"true"}, Freeze: []string{point}, FreezeTime: 5000}
	m.Path = d.Path
	c := connect(t, Policy{Allow: []string{d.Path}, AllowSnapshots: true})
	c.fails(wire.CodeRefused, m) // a program
	c.hangUp()
	spec, err := Policy{Allow: []string{d.Path}, AllowSnapshots: true, AllowHooks: true}.spec(m)
	if err != nil || spec.Limited {
		t.Errorf("%+v, %v", spec, err)
	}
	m.Kind, m.Take, m.Drop = wire.SnapshotLVM, nil, nil
	spec, err = Policy{Allow: []string{d.Path}, AllowSnapshots: true}.spec(m)
	if err != nil || !spec.Limited || strings.Join(spec.Freeze, "") != point {
		t.Errorf("%+v, %v", spec, err)
	}
}
