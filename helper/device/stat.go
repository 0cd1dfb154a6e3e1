package device

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Stat describes what path leads to, following symlinks. It never opens a
// device: that could spin up a disk or close a tray. Character devices, fifos,
// sockets and files of kernel file systems such as procfs are ErrNotFile.
func Stat(path string) (Info, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return Info{}, fail("stat", path, err)
	}
	info, err := describe(path, fi)
	if err != nil {
		return Info{}, fail("stat", path, err)
	}
	info.Name = base(path)
	return info, nil
}

// List describes the block devices, regular files and directories in dir,
// sorted by name. Symlinks appear when they lead to a device or a regular file.
// Devices without a medium (empty loop, nbd or card reader), the partial files
// of this package and entries that vanish meanwhile are left out. Nothing but
// dir itself is opened.
func List(dir string) ([]Info, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fail("list", dir, err)
	}
	var out []Info
	for _, e := range entries {
		if isPartial(e.Name()) || !listable(e.Type()) {
			continue
		}
		info, err := Stat(filepath.Join(dir, e.Name()))
		switch {
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrNotFile), errors.Is(err, ErrRefused):
			continue // vanished, a dangling or looping symlink, or no object
		case errors.Is(err, ErrPermission) && e.Type()&fs.ModeSymlink != 0:
			continue // leads to where this user may not look
		case err != nil:
			return nil, err
		case info.Kind == Dir && e.Type()&fs.ModeSymlink != 0:
			continue
		case info.Kind == Block && info.Size == 0:
			continue
		}
		out = append(out, info)
	}
	return out, nil
}

// listable keeps what may be an object without looking further.
func listable(t fs.FileMode) bool {
	return t.IsRegular() || t.IsDir() || t&(fs.ModeSymlink|fs.ModeDevice) != 0
}

// modeName says what a path is that is no object.
func modeName(m fs.FileMode) string {
	switch {
	case m&fs.ModeCharDevice != 0:
		return "a character device"
	case m&fs.ModeNamedPipe != 0:
		return "a fifo"
	case m&fs.ModeSocket != 0:
		return "a socket"
	default:
		return "a special file"
	}
}

func notFile(path, what string) error {
	return refuse(ErrNotFile, "stat", path, "is %s, not a block device or regular file", what)
}

// isPartial tells whether name was made by partialName. Package regexp would
// make the helper a tenth larger.
func isPartial(name string) bool {
	hash, ok := strings.CutPrefix(name, ".blockdev-")
	hash, ok2 := strings.CutSuffix(hash, ".partial")
	return ok && ok2 && len(hash) == 16 && strings.Trim(hash, "0123456789abcdef") == ""
}

// KernelTree names the tree of the kernel, such as /dev, in which nothing is created,
// when dir is in one, and is empty otherwise.
func KernelTree(dir string) string { return kernelTree(dir) }
