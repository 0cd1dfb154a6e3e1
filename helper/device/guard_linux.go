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

// Pin holds the directory that the name of path is in. pinned is another name of what
// path leads to, which stays there whatever happens to links on the way; dir is that
// directory, without links.
func Pin(path string) (pinned, dir string, unpin func(), err error) {
	f, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", "", nil, fail("open", path, err)
	}
	if dir, err = realPath(f); err != nil {
		f.Close()
		return "", "", nil, fail("open", path, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), base(path)), dir, func() { f.Close() }, nil
}
