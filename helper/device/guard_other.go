//go:build !linux

package device

import (
	"os"
	"path/filepath"
)

// realPath is not known on this system.
func realPath(*os.File) (string, error) { return "", nil }

// Pin is path itself, and the directory that its name is in, without links. On this
// system somebody may come between the two.
func Pin(path string) (pinned, dir string, unpin func(), err error) {
	dir, err = filepath.EvalSymlinks(filepath.Dir(path))
	return path, dir, func() {}, fail("open", path, err)
}
