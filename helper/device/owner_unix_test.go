//go:build unix

package device

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// What is kept is kept where nobody else can put files, or exchange the directory or a link on the way.
func TestMayKeep_Private(t *testing.T) {
	root := t.TempDir()
	for dir, mode := range map[string]os.FileMode{
		"own": 0o700, "own/dir": 0o755, "group": 0o770, "others": 0o777, "others/dir": 0o700, "sticky": 0o777 | os.ModeSticky, "sticky/dir": 0o700,
		"foreign": 0o755, "foreign/dir": 0o700,
	} {
		path := filepath.Join(root, dir)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"own/link": "dir", "own/up": "../own/dir", "own/abs": root + "/own", "others/link": root + "/own/dir", "own/through": root + "/others/link",
		"sticky/link": root + "/own/dir", "own/loop": "loop", "sticky/foreign": root + "/own/dir",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	cases := map[string]bool{
		"own": true, "own/dir": true, "own/link": true, "own/up": true, "own/abs/dir": true, "own/abs/link": true, "group": false, "others": false,
		"others/dir": false, "others/link": false, "own/through": false, "sticky": false, "sticky/dir": true, "sticky/link": true, "own/loop": false,
		"own/missing": false, "own//dir/": true, "own/../others": false, "own/dir/../dir": true,
	}
	if os.Geteuid() == 0 {
		for _, path := range []string{"foreign", "sticky/foreign"} {
			if err := os.Lchown(filepath.Join(root, path), 12345, 0); err != nil {
				t.Fatal(err)
			}
		}
		cases["foreign"], cases["foreign/dir"], cases["sticky/foreign"] = false, false, false
	}
	for path, want := range cases {
		if err := MayKeep(root + "/" + path); (err == nil) != want || err != nil && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrNotFound) && path != "own/loop" {
			t.Errorf("%s: %v", path, err)
		}
	}
}
