package device

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctls of <sys/disk.h>, not in x/sys.
const (
	dkiocGetBlockSize  = 0x40046418 // uint32, bytes
	dkiocGetBlockCount = 0x40086419 // uint64, blocks
	dkiocIsWritable    = 0x4004641d // uint32
)

// describe fills what can be known. The size of a disk is only told by opening
// it, which needs rights: without them it is ErrPermission.
func describe(path string, fi fs.FileInfo) (Info, error) {
	switch mode := fi.Mode(); {
	case mode.IsDir():
		return Info{Kind: Dir, ModTime: fi.ModTime(), Allocated: -1, ID: fileID(fi)}, nil
	case mode.IsRegular():
		return Info{Kind: File, Size: fi.Size(), ModTime: fi.ModTime(), Allocated: allocated(fi), ID: fileID(fi)}, nil
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		rdev := uint64(fi.Sys().(*syscall.Stat_t).Rdev)
		info := Info{Kind: Block, Allocated: -1, ID: fmt.Sprintf("b:%d:%d", unix.Major(rdev), unix.Minor(rdev))}
		f, err := os.Open(path)
		if err != nil {
			return Info{}, fail("open", path, err)
		}
		defer f.Close()
		_, err = probe(f, &info)
		return info, err
	default:
		return Info{}, notFile(path, modeName(mode))
	}
}

// probe asks the open device for its size and whether it can be written.
func probe(f *os.File, info *Info) (align int64, err error) {
	var sector, writable uint32
	var count uint64
	err = withFD(f, func(fd uintptr) error {
		if err := ioctl(fd, dkiocGetBlockSize, unsafe.Pointer(&sector)); err != nil {
			return err
		}
		if err := ioctl(fd, dkiocGetBlockCount, unsafe.Pointer(&count)); err != nil {
			return err
		}
		return ioctl(fd, dkiocIsWritable, unsafe.Pointer(&writable))
	})
	if err != nil {
		return 0, err
	}
	info.Size, info.BlockSize, info.ReadOnly = int64(count)*int64(sector), int(sector), writable == 0
	return 0, nil
}

func ioctl(fd uintptr, request uint, arg unsafe.Pointer) error {
	if _, _, no := syscall.Syscall(syscall.SYS_IOCTL, fd, uintptr(request), uintptr(arg)); no != 0 {
		return no
	}
	return nil
}

// dataSync goes through os.File, which asks the drive to empty its cache too.
func dataSync(f *os.File) error { return f.Sync() }

func adviseSequential(*os.File) {}

func usage(path string) (Usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Usage{}, err
	}
	unit := int64(st.Bsize)
	return Usage{Total: int64(st.Blocks) * unit, Free: int64(st.Bfree) * unit, Available: int64(st.Bavail) * unit}, nil
}
