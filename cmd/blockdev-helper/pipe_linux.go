package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// inputPipe is the size in bytes asked for standard input: with the usual
// 64 KiB sshd waits for the helper far too often. 1 MiB is the most that users
// other than root may have.
const inputPipe = 1 << 20

// enlargePipe does what it can: input that is no pipe stays as it is.
func enlargePipe(f *os.File) {
	_ = control(f, func(fd int) error {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, inputPipe)
		return err
	})
}
