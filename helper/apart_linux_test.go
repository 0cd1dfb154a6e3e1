package helper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// A log that would lie on its own target is refused before anything is written, by force as well.
func TestServe_LogOnTarget(t *testing.T) {
	point := mount(t, "mkfs.ext4", "-q", "-F")
	fi, err := os.Stat(point)
	if err != nil {
		t.Fatal(err)
	}
	number := uint64(fi.Sys().(*syscall.Stat_t).Dev)
	dev, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(number), unix.Minor(number)))
	if err != nil {
		t.Fatal(err)
	}
	dev = "/dev/" + filepath.Base(dev)
	dir := filepath.Join(point, "kept")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	undo := openWrite(dev, 320<<20)
	undo.Undo = dir
	for name, req := range map[string]*wire.Open{"undo": undo, "atomic": openAtomic(dev, dir, 320<<20, 1)} {
		c := connect(t, Policy{})
		c.fails(wire.CodeBusy, req)
		req.Force = true
		if err := c.try(req); !errors.Is(err, wire.CodeRefused) || !strings.Contains(err.Error(), dir+": is on "+dev) {
			t.Errorf("%s: %v", name, err)
		}
		c.hangUp()
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v was made, %v", left, err)
	}
}

// What cannot be read in a directory of logs is told by an undo and a recovery, and is left alone.
func TestServe_SkippedLogs(t *testing.T) {
	require.Need(t, require.Root)
	dir, path := t.TempDir(), file(t, "image", mixed(5<<20, 1))
	c := connect(t, Policy{})
	if err := c.copyWithUndo(path, dir, mixed(5<<20, 2)); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other-00000000-20260101T000000.000000000.undo")
	logs, err := filepath.Glob(dir + "/*.undo")
	if err != nil || len(logs) != 1 {
		t.Fatalf("%v, %v", logs, err)
	}
	data, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(other, 12345, 12345); err != nil { // somebody else could have written it
		t.Fatal(err)
	}
	if err := c.w.Write(undoOf(path, dir)); err != nil {
		t.Fatal(err)
	}
	all, err := c.end()
	if err != nil {
		t.Fatal(err)
	}
	var said string
	for _, f := range all {
		var n wire.Notice
		if f.Type == wire.TypeNotice && f.Decode(&n) == nil {
			said += n.Text
		}
	}
	if !strings.Contains(said, other+": is no log that can be read") {
		t.Errorf("said %q", said)
	}
	holds(t, "undone", path, mixed(5<<20, 1))
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
	c.hangUp()
}
