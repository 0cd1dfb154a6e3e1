package blockdev

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Pauses between two attempts to get a connection back. The first attempt comes
// at once: most lines that break are there again.
const (
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
)

// resume keeps a transfer, or the reading of an object, going over lost
// connections. It is for one goroutine, but for progress.
type resume struct {
	what  *Object       // of the messages
	limit time.Duration // option retry_time
	moved atomic.Bool   // something was done since the last loss
	until time.Time     // no attempt begins later
	pause time.Duration // before the next attempt
}

func newResume(o *Object) *resume { return &resume{what: o, limit: time.Duration(o.fs.opt.RetryTime)} }

// progress notes that something was done that need not be done again. Without it a
// helper that ends at the same place each time would be started for ever.
func (r *resume) progress() { r.moved.Store(true) }

// run calls work until it succeeds, or fails for another reason than a lost
// connection. reopen makes ready for the next call of work.
func (r *resume) run(ctx context.Context, work, reopen func(context.Context) error) error {
	for {
		err := work(ctx)
		if err == nil {
			return nil
		}
		if err := r.after(ctx, err, reopen); err != nil {
			return err
		}
	}
}

// after calls reopen until what failed with err can go on: then it returns nil. It
// returns err when that is no lost connection, and what reopen says when that is
// final, or when the time is over.
func (r *resume) after(ctx context.Context, err error, reopen func(context.Context) error) error {
	if !isLost(err) || r.limit <= 0 || ctx.Err() != nil {
		return err
	}
	if r.moved.Swap(false) || r.until.IsZero() {
		r.until, r.pause = time.Now().Add(r.limit), 0
	}
	where := lost(err)
	fs.Logf(r.what, "connection to %s lost, resuming: %v", where.Host, where.Err)
	for time.Now().Add(r.pause).Before(r.until) {
		select {
		case <-time.After(r.pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		r.pause = min(max(2*r.pause, firstPause), longestPause)
		if err = reopen(ctx); err == nil {
			fs.Logf(r.what, "connected to %s again, going on", where.Host)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !isLost(err) && !errors.Is(err, wire.CodeBusy) {
			return err
		}
		fs.Debugf(r.what, "not connected yet: %v", err)
	}
	return err
}

// lost is the part of err that says that a connection broke, or could not be made,
// which may pass; nil when it is another failure.
func lost(err error) *host.Error {
	var he *host.Error
	if errors.As(err, &he) && he.Retryable {
		return he
	}
	return nil
}

func isLost(err error) bool { return lost(err) != nil }

// restarted tells whether the host of two sessions may have been started anew in
// between: what was not durable is lost then, and names may lead elsewhere.
func restarted(old, now *host.Session) bool {
	return !now.SameBoot(old)
}

func retryOption() fs.Option {
	return fs.Option{
		Name:    "retry_time",
		Default: fs.Duration(5 * time.Minute),
		Help: `How long a transfer tries to get a lost connection back.

It then goes on where it was. The time begins anew whenever something was done
since. Afterwards, and with 0 at once, the error is rclone's, which may begin
again (see --low-level-retries and --retries).`,
		Advanced: true,
	}
}
