package main

import (
	"io"
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

// enlargePipe does what it can: input that is no pipe stays as it is.
func enlargePipe(f *os.File) { setSize(f, inputPipe) }

// outlet is f with a larger pipe that is written with pauses. What is no pipe, or may not be as
// large, stays as it is: half of a small pipe is one piece for sshd.
func outlet(f *os.File) (io.WriteCloser, error) {
	size := setSize(f, outputPipe)
	if size < outputPipe {
		return f, nil
	}
	return pace(f, size)
}

// setSize asks for a pipe of size bytes and returns what it got, less than that when it failed.
func setSize(f *os.File, size int) (got int) {
	_ = control(f, func(fd int) (err error) {
		got, err = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, size)
		return err
	})
	return got
}
