package device

import (
	"syscall"

	"golang.org/x/sys/windows"
)

var errnoKinds = map[syscall.Errno]error{
	windows.ERROR_DIRECTORY:           ErrNotFound,
	windows.ERROR_DIR_NOT_EMPTY:       ErrNotEmpty,
	windows.ERROR_SHARING_VIOLATION:   ErrBusy,
	windows.ERROR_LOCK_VIOLATION:      ErrBusy,
	windows.ERROR_BUSY:                ErrBusy,
	windows.ERROR_WRITE_PROTECT:       ErrReadOnly,
	windows.ERROR_DISK_FULL:           ErrNoSpace,
	windows.ERROR_HANDLE_DISK_FULL:    ErrNoSpace,
	windows.ERROR_DISK_QUOTA_EXCEEDED: ErrNoSpace,
	windows.ERROR_NOT_SUPPORTED:       ErrUnsupported,
	windows.ERROR_INVALID_FUNCTION:    ErrUnsupported,
}

// goneErrnos are for a device that is no longer there.
var goneErrnos = []syscall.Errno{
	windows.ERROR_DEV_NOT_EXIST, windows.ERROR_NO_SUCH_DEVICE, windows.ERROR_DEVICE_NOT_CONNECTED, windows.ERROR_DEVICE_REMOVED, windows.ERROR_NOT_READY,
}
