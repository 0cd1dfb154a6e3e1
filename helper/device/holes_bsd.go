//go:build freebsd || darwin

package device

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// nextData is [Object.Data] for a file; stop may be behind end.
func nextData(f *os.File, off, end int64) (start, stop int64, err error) {
	err = withFD(f, func(fd uintptr) error {
		if start, err = unix.Seek(int(fd), off, unix.SEEK_DATA); err != nil {
			return err
		}
		stop, err = unix.Seek(int(fd), start, unix.SEEK_HOLE)
		return err
	})
	switch {
	case errors.Is(err, unix.ENXIO): // no data behind off
		return end, end, nil
	case err != nil: // the file system cannot tell
		return off, end, nil
	}
	return start, stop, nil
}
