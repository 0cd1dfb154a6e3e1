package device

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// SharedClaim reports whether this system lets followers prove that a leader
// holds a claim.
const SharedClaim = false

// noFollow: os.OpenFile has no such flag here; making symlinks needs a right.
const noFollow = 0

// closeBeforeRename: an open file cannot be renamed or removed here.
const closeBeforeRename = true

func ours(fs.FileInfo) bool { return true }

// syncDir: directories have no sync here; NTFS journals the rename.
func syncDir(string) error { return nil }

func readNotices(*os.File, Info) []string { return nil }

func openExclusive(path string, _ Info, _ WriteOptions) (*os.File, []string, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	return f, nil, err
}

// claim locks one byte behind any data against other copies. Locks are
// mandatory here, so it must not cover what is read and written.
func (o *Object) claim(w WriteOptions) error {
	if o.follower {
		return refuse(ErrUnsupported, "open", o.path, "cannot be written by several streams on this system")
	}
	behind := windows.Overlapped{OffsetHigh: 1 << 30}
	err := windows.LockFileEx(windows.Handle(o.f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &behind)
	if !errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return nil // locked, or on a file system without locks
	}
	if !w.Force {
		return refuse(ErrBusy, "open", o.path, "in use: another copy has locked it; end that first or force the write")
	}
	o.note(o.path + ": written by force although another copy has locked it")
	return nil
}

func usage(path string) (Usage, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return Usage{}, err
	}
	var available, total, free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &available, &total, &free); err != nil {
		return Usage{}, err
	}
	return Usage{Total: int64(total), Free: int64(free), Available: int64(available)}, nil
}
