package blocksync

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
)

// dry finds out what a copy would do, by the comparison that a copy makes.
func (j *job) dry(ctx context.Context) error {
	if !j.src.ours() || !j.dst.ours() {
		j.result.whole = true
		j.explain()
		j.result.Outcome = blockdev.Outcome{Scanned: j.src.size(), Changed: j.src.size()}
		return nil
	}
	plan := &blockdev.Plan{BlockSize: int(j.opt.BlockSize), Mark: j.chart.mark()}
	ctx = blockdev.WithPlan(ctx, plan)
	target, remove, err := j.comparable(ctx)
	if err != nil {
		return err
	}
	defer remove()
	j.show(func() blockdev.Counters { return plan.Meter.Read() })
	j.begin()
	d, err := blockdev.Compare(ctx, j.src.block(), target)
	if err != nil {
		return err
	}
	j.result.Outcome = blockdev.Outcome{Scanned: d.Scanned, Equal: d.Equal, Changed: d.Changed, Zeroed: d.Zeroed, Empty: d.Empty, Wire: d.Wire, Took: d.Took,
		Unreadable: d.Unreadable}
	if j.result.estimate, err = j.estimate(ctx); err != nil {
		return err
	}
	if len(d.InUse) > 0 && j.opt.Force == "" {
		return refuse("the copy would be refused: %s: %s", j.dst, strings.Join(d.InUse, "; "))
	}
	return d.Unreadable.Err(j.src.readErrors())
}

// comparable is the target, or an empty file of this machine in place of one that
// would be created.
func (j *job) comparable(ctx context.Context) (o *blockdev.Object, remove func(), err error) {
	if o := j.dst.block(); o != nil {
		return o, func() {}, nil
	}
	empty, err := os.CreateTemp("", "blocksync-*")
	if err != nil {
		return nil, nil, err
	}
	remove = func() { os.Remove(empty.Name()) }
	empty.Close()
	f, name, err := blockdev.At(ctx, host.Localhost, empty.Name(), without(j.options(), "sudo"))
	if err == nil {
		obj, ferr := f.NewObject(ctx, name)
		o, _ = obj.(*blockdev.Object)
		err = ferr
	}
	if err != nil {
		remove()
		return nil, nil, err
	}
	return o, remove, nil
}

// estimate is how long the copy would take: reading both ends took as long as it
// will then, and what differs must cross the slower of the two lines. On this machine
// it is taken to be written as fast as it was read.
func (j *job) estimate(ctx context.Context) (time.Duration, error) {
	r := j.result.Outcome
	rate := float64(r.Scanned) / max(r.Took.Seconds(), 1e-3)
	for _, e := range []*end{j.src, j.dst} {
		line, err := e.f.(*blockdev.Fs).Throughput(ctx)
		if err != nil {
			return 0, err
		}
		if line > 0 {
			rate = min(rate, line)
		}
	}
	if r.Changed == 0 {
		return r.Took, nil
	}
	return r.Took + time.Duration(float64(r.Changed)/rate*float64(time.Second)), nil
}
