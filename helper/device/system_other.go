//go:build !linux && !freebsd && !darwin

package device

import (
	"io/fs"
	"os"
)

// describe knows image files and directories only on this system.
func describe(path string, fi fs.FileInfo) (Info, error) {
	switch mode := fi.Mode(); {
	case mode.IsDir():
		return Info{Kind: Dir, ModTime: fi.ModTime(), Allocated: -1}, nil
	case mode.IsRegular():
		return Info{Kind: File, Size: fi.Size(), ModTime: fi.ModTime(), Allocated: -1}, nil
	case mode&fs.ModeDevice != 0:
		return Info{}, refuse(ErrNotFile, "stat", path, "is a device: on this system only image files can be read and written")
	default:
		return Info{}, notFile(path, modeName(mode))
	}
}

// probe is for devices, which describe does not let through.
func probe(*os.File, *Info) (align int64, err error) { return 0, nil }

func nextData(_ *os.File, off, _ int64) (start int64, err error) { return off, nil }

func dataSync(f *os.File) error { return f.Sync() }

func adviseSequential(*os.File) {}
