//go:build unix

package device

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// noFollow keeps a symlink from standing in for a partial file.
const noFollow = syscall.O_NOFOLLOW

// closeBeforeRename: open files can be renamed and removed here, so the lock on
// a partial file is held until it has its name.
const closeBeforeRename = false

// fileID identifies a file by device and inode.
func fileID(fi fs.FileInfo) string {
	st := fi.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("f:%d:%d", uint64(st.Dev), uint64(st.Ino))
}

// allocated is the space a file takes, in bytes.
func allocated(fi fs.FileInfo) int64 { return fi.Sys().(*syscall.Stat_t).Blocks * 512 }

// ours reports whether no other user and no other name leads to a file that is
// about to become an image. Anybody may have put it there.
func ours(fi fs.FileInfo) bool {
	st := fi.Sys().(*syscall.Stat_t)
	return int(st.Uid) == os.Geteuid() && st.Nlink == 1
}

// syncDir makes a rename in dir durable. Some file systems cannot and need not.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fail("open", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return fail("sync", dir, err)
	}
	return nil
}

// withFD runs fn on the descriptor of f, again when a signal interrupts it. The
// descriptor cannot be closed and given to another file meanwhile.
func withFD(f *os.File, fn func(fd uintptr) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = conn.Control(func(fd uintptr) {
		for {
			if inner = fn(fd); inner != syscall.EINTR {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return inner
}
