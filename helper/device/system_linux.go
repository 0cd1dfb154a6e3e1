package device

import (
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// describe fills what can be known without opening: fi is what path leads to.
func describe(path string, fi fs.FileInfo) (Info, error) {
	switch mode := fi.Mode(); {
	case mode.IsDir():
		return Info{Kind: Dir, ModTime: fi.ModTime(), Allocated: -1, ID: fileID(fi)}, nil
	case mode.IsRegular():
		if name := kernelFS(path); name != "" {
			return Info{}, notFile(path, "a file of the kernel, in "+name)
		}
		return Info{Kind: File, Size: fi.Size(), ModTime: fi.ModTime(), Allocated: allocated(fi), ID: fileID(fi)}, nil
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		return host.describe(path, numberOf(uint64(fi.Sys().(*syscall.Stat_t).Rdev)))
	default:
		return Info{}, notFile(path, modeName(mode))
	}
}

// probe asks the open device for its size and whether it can be written, which
// sysfs may have had stale for removable media.
func probe(f *os.File, info *Info) (align int64, err error) {
	var size uint64
	err = withFD(f, func(fd uintptr) error {
		_, _, no := unix.Syscall(unix.SYS_IOCTL, fd, unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size)))
		if no != 0 {
			return no
		}
		ro, err := unix.IoctlGetUint32(int(fd), unix.BLKROGET)
		info.ReadOnly = ro != 0
		return err
	})
	info.Size = int64(size)
	return 0, err
}

// adviseSequential doubles read-ahead. It is a hint.
func adviseSequential(f *os.File) {
	_ = withFD(f, func(fd uintptr) error { return unix.Fadvise(int(fd), 0, 0, unix.FADV_SEQUENTIAL) })
}

func dataSync(f *os.File) error {
	return withFD(f, func(fd uintptr) error { return unix.Fdatasync(int(fd)) })
}

func usage(path string) (Usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Usage{}, err
	}
	unit := int64(st.Frsize)
	if unit == 0 {
		unit = int64(st.Bsize)
	}
	return Usage{Total: int64(st.Blocks) * unit, Free: int64(st.Bfree) * unit, Available: int64(st.Bavail) * unit}, nil
}
