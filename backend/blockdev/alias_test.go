package blockdev

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
)

// Moving a file onto itself by another name must not remove it: to rclone they are two equal files.
func TestObject_Remove_OtherName(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"real", "linked"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir+"/real/img", []byte("the only copy"))
	if err := os.Symlink("real", dir+"/alias"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../real/img", dir+"/linked/img"); err != nil {
		t.Fatal(err)
	}
	real := here(t, dir+"/real")
	for name, other := range map[string]fs.Fs{
		"through a link to the directory": newFs(t, "blockdev:localhost"+dir+"/alias"),
		"through a link to the file":      newFs(t, "blockdev:localhost"+dir+"/linked"),
		"on another remote":               newFs(t, `:blockdev,host=localhost,streams=3:`+dir+"/real"),
	} {
		err := operations.MoveFile(t.Context(), other, real, "img", "img")
		if err == nil || !strings.Contains(err.Error(), "same file as") {
			t.Errorf("%s: %v", name, err)
		}
		same(t, dir+"/real/img", []byte("the only copy"))
	}
}

// What is no other name any more does not keep a file.
func TestObject_Remove_OnceOtherName(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	write(t, dir+"/img", []byte("image"))
	find(t, f, "img")
	if err := os.Rename(dir+"/img", dir+"/renamed"); err != nil {
		t.Fatal(err)
	}
	if err := find(t, f, "renamed").Remove(t.Context()); err != nil {
		t.Errorf("renamed: %v", err)
	}
	write(t, dir+"/a", []byte("a"))
	write(t, dir+"/b", []byte("b"))
	for _, name := range []string{"a", "b"} {
		if err := find(t, f, name).Remove(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A name that cannot be asked any more may still lead to the file.
func TestObject_Remove_UnknownName(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	write(t, dir+"/img", []byte("the only copy"))
	o := find(t, f, "img").(*Object)
	gone := host.Get(host.Config{Host: "127.0.0.1", Port: "1", User: "nobody", SSHConfig: "none"})
	names.saw(o.entry, place{gone, dir + "/img"}, time.Now())
	if err := o.Remove(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot tell") {
		t.Errorf("got %v", err)
	}
	same(t, dir+"/img", []byte("the only copy"))
}
