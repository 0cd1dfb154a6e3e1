package device

import (
	"os"

	"golang.org/x/sys/unix"
)

// cloneFile makes to share all blocks of from.
func cloneFile(to, from *os.File) error {
	return withFD(from, func(src uintptr) error {
		return withFD(to, func(dst uintptr) error { return unix.IoctlFileClone(int(dst), int(src)) })
	})
}

// stampName is the extended attribute that names a clone until it takes the place of its image.
const stampName = "user.rclone-blockdev.clone"

func setStamp(f *os.File, stamp string) error {
	return withFD(f, func(fd uintptr) error {
		if err := unix.Fsetxattr(int(fd), stampName, []byte(stamp), 0); err != nil {
			return err
		}
		return unix.Fsync(int(fd))
	})
}

func getStamp(f *os.File) (stamp string, err error) {
	err = withFD(f, func(fd uintptr) error {
		buf := make([]byte, 256)
		n, err := unix.Fgetxattr(int(fd), stampName, buf)
		stamp = string(buf[:max(n, 0)])
		return err
	})
	return stamp, err
}

func removeStamp(f *os.File) {
	_ = withFD(f, func(fd uintptr) error { return unix.Fremovexattr(int(fd), stampName) })
}
