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
