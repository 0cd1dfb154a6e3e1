package blocksync

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/accounting"
	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/fs/operations"
	"github.com/rclone/rclone/lib/atexit"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
)

// copy brings the target to the content of the source.
func (j *job) copy(ctx context.Context) error {
	if j.ci.Interactive && operations.SkipDestructive(ctx, j.src.obj, "copy to "+j.dst.typed) {
		return refuse("not copied, as you said")
	}
	start := time.Now()
	plan := &blockdev.Plan{
		BlockSize: int(j.opt.BlockSize),
		Ready:     j.ready,
		Receipt:   j.opt.Receipt,
		Mark:      j.chart.mark(),
		Done:      func(o blockdev.Outcome) { j.result.Outcome = o },
	}
	ctx = blockdev.WithPlan(ctx, plan)
	defer atexit.Unregister(atexit.Register(func() { j.view.end(&j.result, errInterrupted) }))
	if j.src.ours() && j.dst.ours() {
		j.show(func() blockdev.Counters { return plan.Meter.Read() })
		return j.sync(ctx)
	}
	j.result.whole = true
	j.explain()
	stats := accounting.Stats(ctx)
	j.show(func() blockdev.Counters {
		c := plan.Meter.Read()
		c.Settled = max(c.Settled, stats.GetBytes())
		return c
	})
	if !j.dst.ours() { // nobody asks whether it may be overwritten
		j.begin()
	}
	_, err := operations.Copy(ctx, j.dst.f, j.dst.obj, j.dst.remote, j.src.obj)
	if err == nil && j.result.Scanned == 0 {
		j.result.Outcome = blockdev.Outcome{Scanned: j.src.size(), Changed: j.src.size(), Wire: plan.Meter.Read().Wire, Took: time.Since(start)}
	}
	if err == nil && j.src.ours() {
		j.result.Unreadable = plan.Unreadable()
		err = j.result.Unreadable.Err(j.src.readErrors())
	}
	return err
}

// explain says why more crosses the network than differs.
func (j *job) explain() {
	if j.dst.ours() {
		j.view.say("%s is on a remote that has no digests of blocks: all of it is downloaded, and only what differs is written", j.src.typed)
		return
	}
	j.view.say("%s is on a remote whose objects cannot be changed in part: this is a full upload of %s", j.dst.typed, size(j.src.size()))
}

// sync copies between two ends of the backend. It goes through Copy, not through
// rclone's copy, which asks first whether the times and sizes are equal. After a
// lost connection it is done again, which moves what is still missing.
func (j *job) sync(ctx context.Context) (err error) {
	tr := accounting.Stats(ctx).NewTransfer(j.src.obj, j.dst.f)
	defer func() { tr.Done(ctx, err) }()
	for try := 1; ; try++ {
		in := tr.Account(ctx, nil)
		in.ServerSideTransferStart()
		counted, accounted := in.NewServerSideCopyAccounter(ctx)
		_, err = j.dst.f.Features().Copy(counted, j.src.obj, j.dst.remote)
		if err == nil {
			in.ServerSideCopyEnd(0)
			return nil
		}
		accounted.Reset()
		if !fserrors.IsRetryError(err) || try >= j.ci.LowLevelRetries {
			return fs.CountError(ctx, err)
		}
		fs.Logf(nil, "trying again: %v", err)
		tr.Reset(ctx)
	}
}

// ready is called when both ends are open and nothing was written.
func (j *job) ready(e blockdev.Ends) error {
	if err := j.confirm(e); err != nil {
		return err
	}
	j.begin()
	return nil
}

// confirm asks, once, before a device is overwritten that has something known on
// it, other than the source.
func (j *job) confirm(e blockdev.Ends) error {
	if j.asked || j.opt.Yes || j.ask == nil || len(e.Content) == 0 || slices.Equal(e.Content, e.Source) {
		return nil
	}
	j.asked = true
	has := wrapped("  ", "what is on the source is not known")
	switch {
	case len(e.Source) > 0:
		has = wrapped("  on the source is ", e.Source...)
	case e.Source != nil:
		has = wrapped("  ", "nothing known is on the source")
	}
	what := append(strings.Split(j.dst.facts, ", "), e.IDs...)
	yes, err := j.ask(j.dst.typed + "\n" + wrapped("  is a ", what...) + wrapped("  on it is ", e.Content...) + has + "Overwrite it?")
	switch {
	case err != nil:
		return refuse("%s: not overwritten, since no answer came: %v", j.dst.typed, err)
	case !yes:
		return refuse("%s: not overwritten, as you said", j.dst.typed)
	}
	return nil
}
