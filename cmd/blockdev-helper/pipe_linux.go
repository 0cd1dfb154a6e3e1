package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// Sizes in bytes asked for. With the usual 64 KiB either end waits for the other far too
// often. 1 MiB is the most that users other than root may have. What is in the output is still
// sent when a request is cancelled, so there is less of it.
const (
	inputPipe  = 1 << 20
	outputPipe = 512 << 10
)

// enlargePipe does what it can to give the pipe f a size in bytes, and returns the size that it
// has: 0 for what is no pipe.
func enlargePipe(f *os.File, size int) (has int) {
	_ = control(f, func(fd int) (err error) {
		if has, err = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, size); err != nil {
			has, err = unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
		}
		return err
	})
	return max(has, 0)
}
