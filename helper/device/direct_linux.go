package device

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openDirect opens what f has open once more, or returns nil. It goes through
// the open file, so that no name is resolved again.
func openDirect(f *os.File) (again *os.File) {
	_ = withFD(f, func(fd uintptr) (err error) {
		again, err = os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY|unix.O_DIRECT, 0)
		return err
	})
	return again
}

// isInvalid tells a read that the system does not take from one that failed.
func isInvalid(err error) bool { return errors.Is(err, unix.EINVAL) }
