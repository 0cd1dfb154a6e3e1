package device

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Usage is the space of a file system in bytes.
type Usage struct {
	Total     int64
	Free      int64
	Available int64 // to users other than root
}

// StatFS tells the space of the file system that path is on.
func StatFS(path string) (Usage, error) {
	u, err := usage(path)
	return u, fail("statfs", path, err)
}

// Mkdir makes a directory and its parents; one that exists is fine. It is
// refused under /dev, /proc and /sys, where it would only live in memory.
func Mkdir(path string) error {
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		return nil
	}
	if err := mayCreate("mkdir", path); err != nil {
		return err
	}
	return fail("mkdir", path, os.MkdirAll(path, 0o777))
}

// Rmdir removes an empty directory, and never anything else.
func Rmdir(path string) error {
	if where := kernelTree(filepath.Dir(path)); where != "" {
		return refuse(ErrRefused, "rmdir", path, "nothing is removed under %s", where)
	}
	return fail("rmdir", path, syscall.Rmdir(path))
}

// Remove removes an image file, or a symlink to one. Devices, symlinks to
// devices and anything under /dev, /proc and /sys are refused.
func Remove(path string) error {
	info, err := Stat(path)
	if err != nil {
		return err
	}
	switch {
	case info.Kind == Block:
		return refuse(ErrRefused, "remove", path, "is a block device: devices are never removed")
	case info.Kind == Dir:
		return refuse(ErrIsDir, "remove", path, "is a directory, not an image file")
	}
	if where := kernelTree(filepath.Dir(path)); where != "" {
		return refuse(ErrRefused, "remove", path, "nothing is removed under %s", where)
	}
	return fail("remove", path, syscall.Unlink(path))
}

// SetTime sets the modification time of a file or directory, to 1 ns where the
// file system can. Devices have none: nothing happens.
func SetTime(path string, t time.Time) error {
	info, err := Stat(path)
	if err != nil || info.Kind == Block {
		return err
	}
	return fail("set the time of", path, os.Chtimes(path, time.Time{}, t))
}

// mayCreate refuses to create path in the trees the kernel makes: a mistyped
// device name would become a file in memory.
func mayCreate(op, path string) error {
	if where := kernelTree(filepath.Dir(path)); where != "" {
		return refuse(ErrRefused, op, path, "does not exist and nothing is created under %s: check the device name", where)
	}
	return nil
}

// existing is path, or the nearest of its parents that exists, without symlinks.
func existing(path string) string {
	for {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			if abs, err := filepath.Abs(real); err == nil {
				return abs
			}
			return real
		}
		up := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || up == path {
			return path
		}
		path = up
	}
}
