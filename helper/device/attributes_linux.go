package device

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	aclName  = "system.posix_acl_access"
	noCOW    = 0x00800000 // FS_NOCOW_FL of linux/fs.h
	maxNames = 64 << 10   // XATTR_LIST_MAX of the kernel, bytes
)

// left are attributes that a clone does not get: our own, those computed of the content,
// and the list of XFS that aclName stands for.
var left = []string{stampName, "security.ima", "security.evm", "trusted.SGI_ACL_FILE"}

// likeFlags has to overwrite in place as from does on Btrfs, where one that does not cannot be
// a clone of one that does. That shows when it is cloned.
func likeFlags(to, from *os.File) {
	_ = withFD(from, func(src uintptr) error {
		flags, err := unix.IoctlGetUint32(int(src), unix.FS_IOC_GETFLAGS)
		if err != nil || flags&noCOW == 0 {
			return err
		}
		return withFD(to, func(dst uintptr) error {
			own, err := unix.IoctlGetUint32(int(dst), unix.FS_IOC_GETFLAGS)
			if err != nil {
				return err
			}
			return unix.IoctlSetPointerInt(int(dst), unix.FS_IOC_SETFLAGS, int(own|noCOW))
		})
	})
}

// likeAttributes gives to the extended attributes of from. An access control list that
// to has of its directory is replaced too.
func likeAttributes(to, from *os.File) error {
	return withFD(from, func(src uintptr) error {
		return withFD(to, func(dst uintptr) error { return copyAttributes(int(dst), int(src)) })
	})
}

func copyAttributes(dst, src int) error {
	names, err := xattrs(src)
	if err != nil {
		return err
	}
	if !slices.Contains(names, aclName) {
		if err := unix.Fremovexattr(dst, aclName); err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("%s: %w", aclName, err)
		}
	}
	for _, name := range names {
		value, err := xattr(src, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if has, err := xattr(dst, name); err == nil && bytes.Equal(has, value) {
			continue // as a label that may not be set, but is right
		}
		if err := unix.Fsetxattr(dst, name, value, 0); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// xattrs are the names of those that are copied.
func xattrs(fd int) ([]string, error) {
	buf := make([]byte, maxNames)
	n, err := unix.Flistxattr(fd, buf)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := strings.Split(string(buf[:n]), "\x00")
	return slices.DeleteFunc(names, func(name string) bool { return name == "" || slices.Contains(left, name) }), nil
}

// xattr is the value of one.
func xattr(fd int, name string) ([]byte, error) {
	buf := make([]byte, maxNames) // also XATTR_SIZE_MAX
	n, err := unix.Fgetxattr(fd, name, buf)
	return buf[:max(n, 0)], err
}

// dropACL leaves access to the owner, until likeAttributes gives it to others again.
func dropACL(f *os.File) {
	_ = withFD(f, func(fd uintptr) error { return unix.Fremovexattr(int(fd), aclName) }) // there may be none
}
