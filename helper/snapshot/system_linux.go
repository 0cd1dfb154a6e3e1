package snapshot

import (
	"os"
	"syscall"
)

// Supported tells whether this system has what the package needs.
const Supported = true

// deviceOf is the number of the device that a file is on.
func deviceOf(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev)
	}
	return 0
}
