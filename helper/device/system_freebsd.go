package device

import (
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// describe fills what can be known without opening. Disks are character devices
// here; those that GEOM lists with a size are taken as block devices.
func describe(path string, fi fs.FileInfo) (Info, error) {
	switch mode := fi.Mode(); {
	case mode.IsDir():
		return Info{Kind: Dir, ModTime: fi.ModTime(), Allocated: -1, ID: fileID(fi)}, nil
	case mode.IsRegular():
		return Info{Kind: File, Size: fi.Size(), ModTime: fi.ModTime(), Allocated: allocated(fi), ID: fileID(fi)}, nil
	case mode&fs.ModeDevice != 0:
		return provider(path, mode, uint64(fi.Sys().(*syscall.Stat_t).Rdev))
	default:
		return Info{}, notFile(path, modeName(mode))
	}
}

// provider finds a disk or partition in GEOM's table, whose lines read
// "1 PART ada0p1 524288 512 i 1 o 20480 ...".
func provider(path string, mode fs.FileMode, rdev uint64) (Info, error) {
	table, err := unix.Sysctl("kern.geom.conftxt")
	if err != nil {
		return Info{}, err
	}
	name := strings.TrimPrefix(existing(path), "/dev/")
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 5 || f[2] != name {
			continue
		}
		size, err1 := strconv.ParseInt(f[3], 10, 64)
		sector, err2 := strconv.Atoi(f[4])
		if err1 == nil && err2 == nil && sector > 0 {
			return Info{Kind: Block, Size: size, Allocated: -1, BlockSize: sector, ID: deviceID(rdev)}, nil
		}
	}
	return Info{}, notFile(path, modeName(mode))
}

func deviceID(rdev uint64) string {
	return "b:" + strconv.FormatUint(uint64(unix.Major(rdev)), 10) + ":" + strconv.FormatUint(uint64(unix.Minor(rdev)), 10)
}

// probe asks the open device for its size. Only whole sectors can be read.
func probe(f *os.File, info *Info) (align int64, err error) {
	var size int64
	var sector uint32
	err = withFD(f, func(fd uintptr) error {
		if err := ioctl(fd, unix.DIOCGMEDIASIZE, unsafe.Pointer(&size)); err != nil {
			return err
		}
		return ioctl(fd, unix.DIOCGSECTORSIZE, unsafe.Pointer(&sector))
	})
	if err != nil {
		return 0, err
	}
	info.Size, info.BlockSize = size, int(sector)
	return int64(sector), nil
}

func ioctl(fd uintptr, request uint, arg unsafe.Pointer) error {
	if _, _, no := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(request), uintptr(arg)); no != 0 {
		return no
	}
	return nil
}

func dataSync(f *os.File) error { return f.Sync() }

func adviseSequential(*os.File) {}

func usage(path string) (Usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Usage{}, err
	}
	unit := int64(st.Bsize)
	return Usage{Total: int64(st.Blocks) * unit, Free: int64(st.Bfree) * unit, Available: st.Bavail * unit}, nil
}
