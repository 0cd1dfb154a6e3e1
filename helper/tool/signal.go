package tool

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// signalError is the end of a command that a signal ended.
type signalError struct{ sig os.Signal }

func (e *signalError) Error() string { return "ended by a signal: " + e.sig.String() }

// code is the exit code, as shells have it.
func (e *signalError) code() int {
	if n, ok := e.sig.(syscall.Signal); ok {
		return 128 + int(n)
	}
	return ExitTrouble
}

// interruptible is ctx that also ends when the user or the system asks for it, so that
// no half file is left. A second signal ends the program at once, for a disk that does
// not answer.
func interruptible(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case sig := <-signals:
			signal.Stop(signals)
			cancel(&signalError{sig})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}
