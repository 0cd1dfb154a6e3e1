//go:build unix

package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// openStream prepares pipes and sockets so that Close ends a pending Read: the
// Go runtime must wait for them itself instead of the kernel.
func openStream(stdin, stdout *os.File) (*stream, error) {
	// A client that went away shows as an error of Write, which leaves time to
	// finish the write to the device; the signal would end the program at once.
	signal.Ignore(syscall.SIGPIPE)
	enlargePipe(stdin)
	in, err := pollable(stdin)
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	out, err := pollable(stdout)
	if err != nil {
		return nil, fmt.Errorf("standard output: %w", err)
	}
	paced, err := outlet(out)
	if err != nil {
		return nil, fmt.Errorf("standard output: %w", err)
	}
	return &stream{in: in, out: paced}, nil
}

// pollable duplicates a pipe or socket in non-blocking mode. Anything else is
// returned as it is: the mode of a terminal belongs to its shell.
func pollable(f *os.File) (*os.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return f, nil
	}
	duplicate := -1
	err = control(f, func(fd int) (err error) {
		if duplicate, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.SetNonblock(duplicate, true)
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(duplicate), f.Name()), nil
}

// control calls fn with the descriptor of f.
func control(f *os.File, fn func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return err
	}
	return inner
}
