package device

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// realPath is the path of an open file, without links.
func realPath(f *os.File) (real string, err error) {
	err = withFD(f, func(fd uintptr) error {
		real, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		return err
	})
	return real, err
}

// Within looks at path in two steps that nobody can come between: dir is the
// directory that its name is in, without links, and info what the name leads to
// from there.
func Within(path string) (dir string, info Info, err error) {
	f, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", info, fail("open", path, err)
	}
	defer f.Close()
	if dir, err = realPath(f); err != nil {
		return "", info, fail("open", path, err)
	}
	err = withFD(f, func(fd uintptr) error {
		info, err = Stat(fmt.Sprintf("/proc/self/fd/%d/%s", fd, base(path)))
		return err
	})
	return dir, info, err
}
