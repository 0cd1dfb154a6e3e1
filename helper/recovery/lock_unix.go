//go:build unix

package recovery

import (
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// lock waits until nobody else appends.
func (l *Log) lock() error {
	for {
		err := unix.Flock(int(l.f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
}

func (l *Log) unlock() { _ = unix.Flock(int(l.f.Fd()), unix.LOCK_UN) }

// syncDir makes the name of a file in its directory durable.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && err.(*os.PathError).Err != syscall.EINVAL {
		return err
	}
	return nil
}
