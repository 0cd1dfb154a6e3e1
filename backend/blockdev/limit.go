package blockdev

import (
	"context"
	"errors"
	"io"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/accounting"
)

// limit is --max-transfer in its mode "hard", which rclone enforces in the reader
// that it gives us. We go round that reader, so the limit is ours to keep. Like
// rclone's it is about all transfers of the command together.
type limit struct {
	stats *accounting.StatsInfo
	max   int64 // bytes, below 0 for none
}

func newLimit(ctx context.Context) limit {
	ci := fs.GetConfig(ctx)
	if ci.CutoffMode != fs.CutoffModeHard {
		return limit{max: -1}
	}
	return limit{accounting.Stats(ctx), int64(ci.MaxTransfer)}
}

// exceeded is rclone's error when more has been transferred than the limit allows.
func (l limit) exceeded() error {
	if l.max >= 0 && l.stats.GetBytes() > l.max {
		return accounting.ErrorMaxTransferLimitReachedFatal
	}
	return nil
}

// watch gives a context that ends when progress has gone beyond the limit. outcome
// ends the watch, and gives that as the reason of whatever came of it.
func (l limit) watch(ctx context.Context, progress func(int64)) (watched context.Context, counted func(int64), outcome func(error) error) {
	watched, stop := context.WithCancelCause(ctx)
	counted = func(n int64) {
		progress(n)
		if err := l.exceeded(); err != nil {
			stop(err)
		}
	}
	outcome = func(err error) error {
		stop(nil)
		if cause := context.Cause(watched); errors.Is(cause, accounting.ErrorMaxTransferLimitReached) {
			return cause
		}
		return err
	}
	return watched, counted, outcome
}

// unthrottled reads in without its bandwidth limit, which is for what crosses
// the network: blocks that are equal do not. What is read is still accounted.
func unthrottled(ctx context.Context, in io.Reader) io.Reader {
	acc, ok := in.(*accounting.Account)
	if !ok {
		return in
	}
	return &accounted{acc.OldStream(), acc, newLimit(ctx)}
}

type accounted struct {
	in    io.Reader
	acc   *accounting.Account
	limit limit
}

// Read looks at the limit first, so that going beyond it is noticed at the latest
// when the end is asked for.
func (a *accounted) Read(p []byte) (int, error) {
	if err := a.limit.exceeded(); err != nil {
		return 0, err
	}
	n, err := a.in.Read(p)
	a.acc.AccountReadN(int64(n))
	return n, err
}
