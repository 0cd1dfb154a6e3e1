//go:build !linux

package device

import (
	"os"
	"path/filepath"
)

// realPath is not known on this system.
func realPath(*os.File) (string, error) { return "", nil }

// Within is the directory that the name of path is in, without links, and what the
// path leads to. On this system somebody may come between the two.
func Within(path string) (dir string, info Info, err error) {
	if dir, err = filepath.EvalSymlinks(filepath.Dir(path)); err != nil {
		return "", info, fail("open", path, err)
	}
	info, err = Stat(path)
	return dir, info, err
}
