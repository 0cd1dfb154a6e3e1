package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// reflink clones an image file on a file system that shares blocks between files: Btrfs, XFS, bcachefs and others.
// The clone lies beside the file under a hidden name, and has the attribute cloneMark.
type reflink struct{}

const cloneMark = "user.blockdev.owner"

// hidden is the name of a clone in its directory.
func hidden(name string) string { return "." + name }

func (reflink) plan(_ context.Context, spec *Spec, path string, now time.Time) (Member, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Member{}, fail(device.ErrNotFound, path, "snapshot = btrfs-file: %v", err)
	}
	info, err := os.Stat(real)
	if err != nil || !info.Mode().IsRegular() {
		return Member{}, fail(device.ErrRefused, path, "snapshot = btrfs-file: is not an image file")
	}
	clone := filepath.Join(filepath.Dir(real), hidden(nameOf(filepath.Base(real), spec.Owner, now)))
	return Member{Path: path, Kind: Reflink, Origin: real, Name: clone}, nil
}

func (reflink) take(_ context.Context, spec *Spec, m *Member) error {
	src, err := os.Open(m.Origin)
	if err != nil {
		return cloneFailed(m, err)
	}
	defer src.Close()
	// It gets its name last, so that what has the name is whole and has the mark.
	f, err := os.OpenFile(filepath.Dir(m.Name), os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err != nil {
		return cloneFailed(m, err)
	}
	defer f.Close()
	err = unix.Fsetxattr(int(f.Fd()), cloneMark, []byte(spec.Owner), 0)
	if err == nil {
		err = unix.IoctlFileClone(int(f.Fd()), int(src.Fd()))
	}
	if err == nil {
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, m.Name, unix.AT_SYMLINK_FOLLOW)
	}
	if err != nil {
		return cloneFailed(m, err)
	}
	m.Device = m.Name
	return nil
}

func cloneFailed(m *Member, err error) error {
	kind, why := device.ErrIO, "cloning it failed"
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EXDEV):
		kind, why = device.ErrUnsupported, "its file system cannot clone files, as Btrfs and XFS with reflink can"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		kind, why = device.ErrNoSpace, "there is no space for a clone"
	case errors.Is(err, os.ErrPermission):
		kind, why = device.ErrPermission, "this user may not make a clone in its directory"
	case errors.Is(err, unix.EROFS):
		kind, why = device.ErrReadOnly, "its file system is read-only"
	case errors.Is(err, os.ErrExist):
		kind, why = device.ErrBusy, "the name of the clone is taken"
	}
	return fail(kind, m.Path, "snapshot = btrfs-file: %s (%v)", why, err)
}

func (reflink) check(_ context.Context, m *Member) error {
	if !exists(m.Name) {
		return notFound(m.Path)
	}
	return nil
}

func (reflink) drop(_ context.Context, _ *Spec, m *Member) error {
	var st unix.Stat_t
	switch err := unix.Lstat(m.Name, &st); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return cloneFailed(m, err)
	}
	mark := make([]byte, 64)
	n, err := unix.Lgetxattr(m.Name, cloneMark, mark)
	_, _, ok := parseName(filepath.Base(m.Name)[1:])
	if err != nil || !ok || st.Mode&unix.S_IFMT != unix.S_IFREG || !isOwner(string(mark[:n])) {
		return fail(device.ErrRefused, m.Path, "%s is not removed: it has not the attribute %s that a clone of ours has", m.Name, cloneMark)
	}
	if err := os.Remove(m.Name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return cloneFailed(m, err)
	}
	return nil
}

// orphans are not looked for: no directory tells where images are. Their sets are remembered on disk.
func (reflink) orphans(context.Context, string) ([]Member, error) { return nil, nil }
