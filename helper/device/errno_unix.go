//go:build !windows

package device

import "syscall"

var errnoKinds = map[syscall.Errno]error{
	syscall.ENOENT:       ErrNotFound,
	syscall.ENOTDIR:      ErrNotFound,
	syscall.EISDIR:       ErrIsDir,
	syscall.ENOTEMPTY:    ErrNotEmpty,
	syscall.EBUSY:        ErrBusy,
	syscall.ETXTBSY:      ErrBusy,
	syscall.EAGAIN:       ErrBusy,
	syscall.EROFS:        ErrReadOnly,
	syscall.EEXIST:       ErrRefused,
	syscall.ELOOP:        ErrRefused,
	syscall.EXDEV:        ErrRefused,
	syscall.ENAMETOOLONG: ErrRefused,
	syscall.ENOSPC:       ErrNoSpace,
	syscall.EDQUOT:       ErrNoSpace,
	syscall.EACCES:       ErrPermission,
	syscall.EPERM:        ErrPermission,
	syscall.EOPNOTSUPP:   ErrUnsupported,
	syscall.ENOSYS:       ErrUnsupported,
	syscall.ENOTTY:       ErrUnsupported,
	syscall.EFBIG:        ErrUnsupported,
}

// goneErrnos are for a device that is no longer there.
var goneErrnos = []syscall.Errno{syscall.ENODEV, syscall.ENXIO}
