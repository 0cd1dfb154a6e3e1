//go:build unix && !linux

package device

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// SharedClaim reports whether this system lets followers prove that a leader
// holds a claim.
const SharedClaim = false

// claim locks the file against other copies. Disks in use are refused by the
// kernel of these systems when they are opened for writing.
func (o *Object) claim(w WriteOptions) error {
	if o.follower {
		return refuse(ErrUnsupported, "open", o.path, "cannot be written by several streams on this system")
	}
	err := withFD(o.f, func(fd uintptr) error { return unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB) })
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return nil // locked, or on a file system without locks
	}
	if !w.Force {
		return refuse(ErrBusy, "open", o.path, "in use: another program has locked it; end that first or force the write")
	}
	o.note(o.path + ": written by force although another program has locked it")
	return nil
}

func openExclusive(path string, _ Info, _ WriteOptions) (*os.File, []string, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EPERM) {
		return nil, nil, refuse(ErrBusy, "open", path, "in use: it is mounted or held by another program; unmount it first")
	}
	return f, nil, err
}

func readNotices(*os.File, Info) []string { return nil }
