//go:build unix

package main

import (
	"cmp"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// shortestPause is what the timers of the Go runtime can do.
	shortestPause = time.Millisecond
	// longestPause is for a reader that is slow at times: sshd waits for the window of SSH.
	longestPause = 2 * time.Millisecond
)

// pacedPipe writes to a pipe that is read more slowly than it could be written. Once it is full,
// it is left alone until about half of it has been read. sshd reads 32 KiB at a time, and to be
// woken for each takes four system calls and as many switches between threads: a tenth of the
// processor time of a first copy from this host.
type pacedPipe struct {
	*os.File
	raw   syscall.RawConn
	size  int                 // of the pipe, in bytes
	pause time.Duration       // until half of it has been read; 0 when that is shorter than shortestPause
	sleep func(time.Duration) // time.Sleep, but for tests
}

// pace makes f, a pipe of size bytes in non-blocking mode, a paced one. It is for one goroutine.
func pace(f *os.File, size int) (*pacedPipe, error) {
	raw, err := f.SyscallConn()
	return &pacedPipe{File: f, raw: raw, size: size, sleep: time.Sleep}, err
}

// Write writes all of b.
func (p *pacedPipe) Write(b []byte) (n int, err error) {
	var failed error   // of a system call
	var full time.Time // since when it is; zero when something was written since
	paused := false    // since then
	err = p.raw.Write(func(fd uintptr) (ended bool) {
		for n < len(b) {
			wrote, err := unix.Write(int(fd), b[n:])
			switch {
			case wrote > 0:
				n += wrote
				if n < len(b) && !full.IsZero() { // full again, by what was read meanwhile
					p.pause = pauseFor(p.size, wrote, time.Since(full))
				}
				full, paused = time.Time{}, false
			case err == unix.EAGAIN:
				if full.IsZero() {
					full = time.Now()
				}
				if paused || p.pause == 0 {
					return false // to be called again when something was read
				}
				paused = true
				p.sleep(p.pause)
			case err != unix.EINTR:
				failed = cmp.Or(err, io.ErrShortWrite)
				return true
			}
		}
		return true
	})
	if err = cmp.Or(failed, err); err != nil {
		err = &os.PathError{Op: "write", Path: p.Name(), Err: err}
	}
	return n, err
}

// pauseFor is how long half of a pipe of size bytes lasts, of which read bytes were read in the
// time that it was full.
func pauseFor(size, read int, full time.Duration) time.Duration {
	pause := time.Duration(float64(full) * float64(size/2) / float64(read))
	if pause < shortestPause {
		return 0
	}
	return min(pause, longestPause)
}
