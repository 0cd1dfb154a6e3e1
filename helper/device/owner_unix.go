//go:build unix

package device

import (
	"io/fs"
	"os"
	"syscall"
)

// links is how many names a file has.
func links(fi fs.FileInfo) uint64 { return uint64(fi.Sys().(*syscall.Stat_t).Nlink) }

// chown gives f the owner of another file, unless it has it.
func chown(f *os.File, like fs.FileInfo) error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	have, want := now.Sys().(*syscall.Stat_t), like.Sys().(*syscall.Stat_t)
	if have.Uid == want.Uid && have.Gid == want.Gid {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}
