//go:build freebsd || darwin

package device

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// nextData is where a file may have data from off on; end when there is none.
func nextData(f *os.File, off, end int64) (start int64, err error) {
	err = withFD(f, func(fd uintptr) error {
		start, err = unix.Seek(int(fd), off, unix.SEEK_DATA)
		return err
	})
	switch {
	case errors.Is(err, unix.ENXIO):
		return end, nil
	case err != nil: // the file system cannot tell
		return off, nil
	}
	return start, nil
}
