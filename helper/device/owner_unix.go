//go:build unix

package device

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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

const maxLinks = 40 // on the way to a directory, as for the kernel

// private refuses a directory, named by an absolute path, that anybody but this user
// and root can write to, or whose name they can lead elsewhere: by exchanging a
// directory or link on the way.
func private(dir string) error {
	at, rest := "/", dir
	for links := 0; ; {
		if err := onlyOurs(at, dir, rest == ""); err != nil || rest == "" {
			return err
		}
		var next string
		next, rest, _ = strings.Cut(rest, "/")
		rest = strings.TrimLeft(rest, "/")
		at = filepath.Join(at, next) // without links up to here, so .. is the one above
		target, err := os.Readlink(at)
		if err != nil {
			continue // no link
		}
		if links++; links > maxLinks {
			return refuse(ErrRefused, "keep in", dir, "has too many links on its way")
		}
		if err := onlyOurs(at, dir, false); err != nil {
			return err
		}
		if rest = strings.TrimRight(target+"/"+rest, "/"); filepath.IsAbs(target) {
			at = "/"
		} else {
			at = filepath.Dir(at)
		}
		rest = strings.TrimLeft(rest, "/")
	}
}

// onlyOurs is private for one directory or link on the way to dir. In one with the
// sticky bit others cannot exchange what is not theirs, but put files.
func onlyOurs(path, dir string, last bool) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return fail("stat", path, err)
	}
	uid := int(fi.Sys().(*syscall.Stat_t).Uid)
	if uid != 0 && uid != os.Geteuid() {
		return refuse(ErrRefused, "keep in", dir, "%s belongs to another user (%d), who could change what is kept: use a directory of root or of the user of the helper", path, uid)
	}
	sticky := fi.Mode()&os.ModeSticky != 0 && !last
	if fi.Mode()&os.ModeSymlink == 0 && fi.Mode().Perm()&0o022 != 0 && !sticky {
		return refuse(ErrRefused, "keep in", dir, "others may write to %s (mode %04o), and so change what is kept: chmod go-w, or use another directory", path, fi.Mode().Perm())
	}
	return nil
}
