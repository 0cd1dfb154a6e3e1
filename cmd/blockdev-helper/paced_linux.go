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
	f     *os.File
	raw   syscall.RawConn     // of f
	size  int                 // of the pipe, in bytes
	pause time.Duration       // when it is full; 0 to be woken as soon as something was read
	sleep func(time.Duration) // time.Sleep, but for tests
}

// pace makes f, a pipe of size bytes in non-blocking mode, a paced one.
func pace(f *os.File, size int) (*pacedPipe, error) {
	raw, err := f.SyscallConn()
	return &pacedPipe{f: f, raw: raw, size: size, sleep: time.Sleep}, err
}

// Close ends a pending Write.
func (p *pacedPipe) Close() error { return p.f.Close() }

// Write writes all of b. It is for one goroutine at a time.
func (p *pacedPipe) Write(b []byte) (n int, err error) {
	var failed error   // of a system call
	var full time.Time // when the pipe was, zero before
	paused := false    // since then
	err = p.raw.Write(func(fd uintptr) (ended bool) {
		if !full.IsZero() {
			p.learn(int(fd), time.Since(full), paused)
		}
		for n < len(b) {
			wrote, err := unix.Write(int(fd), b[n:])
			switch {
			case wrote > 0:
				n += wrote
			case err == unix.EAGAIN:
				full, paused = time.Now(), p.pause > 0
				if paused {
					p.sleep(p.pause)
				}
				return false // to be called again when something was read, at once if it was
			case err != unix.EINTR:
				failed = cmp.Or(err, io.ErrShortWrite)
				return true
			}
		}
		return true
	})
	if err = cmp.Or(failed, err); err != nil {
		err = &os.PathError{Op: "write", Path: p.f.Name(), Err: err}
	}
	return n, err
}

// learn finds out how much was read of the pipe since it was full, and sets the next pause. What
// is known without a pause is how long the reader took for a first piece, which may be chance:
// then the next one is the shortest.
func (p *pacedPipe) learn(fd int, took time.Duration, paused bool) {
	left, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil || left >= p.size {
		return
	}
	p.pause = pauseFor(p.size, p.size-left, took)
	if !paused {
		p.pause = min(p.pause, shortestPause)
	}
}

// pauseFor is how long half of a pipe of size bytes lasts, of which read bytes were read in the
// time that it took. A reader that has read all of it has waited since, nobody knows how long.
func pauseFor(size, read int, took time.Duration) time.Duration {
	pause := time.Duration(float64(took) * float64(size/2) / float64(read))
	if pause < shortestPause || read >= size {
		return 0
	}
	return min(pause, longestPause)
}
