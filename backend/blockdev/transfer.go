package blockdev

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/lib/atexit"
	"github.com/rclone/rclone/lib/transferaccounter"
	"golang.org/x/sync/errgroup"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// copyFrom brings o to the content of another object of this backend.
func (o *Object) copyFrom(ctx context.Context, src *Object) error {
	from, err := src.fs.place(src.remote)
	if err != nil {
		return err
	}
	acc := transferaccounter.Get(ctx)
	acc.Start()
	return o.transfer(ctx, src, from, acc.Add)
}

// transfer brings o to the content of what is at from, between helpers: several
// stripes at once, the frames passing through this process. progress is called
// with the number of bytes settled, from several goroutines.
func (o *Object) transfer(ctx context.Context, src fs.ObjectInfo, from place, progress func(n int64)) error {
	plan, report := planOf(ctx), &report{start: time.Now()}
	source, err := openSource(ctx, from)
	if err != nil {
		return classify(err)
	}
	defer source.close()
	if source.opened.Size != src.Size() {
		// rclone compares with the size it knows, and would remove the target.
		return classify(wire.Errorf(wire.CodeSource, "%s: had %d bytes when it was listed and has %d now: it changes while it is copied",
			src.Remote(), src.Size(), source.opened.Size))
	}
	t, err := o.openTarget(ctx, src.Size())
	if err != nil {
		return classify(err)
	}
	if id := identity(source.s, source.opened.Entry); id != "" && id == identity(t.lead.s, t.lead.opened.Entry) {
		t.abort(nil)
		return refuse("%s:%s is the same %s as the source %s:%s", t.at.host, t.at.path, kindName(t.lead.opened.Entry), from.host, from.path)
	}
	if err := t.announceFrom(ctx, source); err != nil {
		t.abort(nil)
		return classify(err)
	}
	plan.Meter.begin(report)
	limited, progress, outcome := newLimit(ctx).watch(ctx, plan.Meter.settle(progress))
	if err := outcome(t.stripes(limited, source, report, progress)); err != nil {
		t.abort(err)
		return classify(err)
	}
	return classify(t.commit(ctx, src, report))
}

// stripes joins source and target on all stripes.
func (t *target) stripes(ctx context.Context, source *lease, report *report, progress func(n int64)) error {
	defer t.interruptible()()
	plan := planOf(ctx)
	stripes := block.Stripes(min(source.opened.Size, t.lead.opened.Size), plan.blockSize())
	todo := make(chan block.Range, len(stripes))
	for _, r := range stripes {
		todo <- r
	}
	close(todo)
	work := func(ctx context.Context, src, dst *lease) error {
		defer report.join(src, dst)()
		src.s.Watch(plan.Meter.moved)
		for r := range todo {
			res, err := host.Join(ctx, src.s, dst.s, r, progress)
			if err != nil {
				return err
			}
			report.add(res)
		}
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return work(ctx, source, t.lead) })
	for range min(t.streams(source.opened.Entry.Rotational), len(stripes)) - 1 {
		g.Go(func() error {
			src, dst, err := t.follow(ctx, source)
			switch {
			case errors.Is(err, wire.CodeSource):
				return err
			case err != nil: // the stripes are done by those who have a session
				fs.Debugf(t.o, "going on with fewer streams: %v", err)
				return nil
			}
			defer dst.close()
			defer src.close()
			return work(ctx, src, dst)
		})
	}
	return g.Wait()
}

// receive brings o to the content of in, which can be read only once: one stream,
// compared on this side.
func (o *Object) receive(ctx context.Context, in io.Reader, src fs.ObjectInfo) error {
	plan, report := planOf(ctx), &report{start: time.Now()}
	t, err := o.openTarget(ctx, src.Size())
	if err != nil {
		return classify(err)
	}
	r := block.Range{Length: min(t.lead.opened.Size, src.Size()), BlockSize: plan.blockSize()}
	if in, err = t.announceStream(ctx, unthrottled(ctx, in), src.Size()); err != nil {
		t.abort(nil)
		return classify(err)
	}
	plan.Meter.begin(report)
	left := report.join(t.lead)
	stop := t.interruptible()
	res, err := host.SendTo(ctx, delta.NewStream(plan.Meter.read(in), src.Size()), t.lead.s, r)
	stop()
	left()
	if err != nil {
		t.abort(err)
		return classify(err)
	}
	report.add(res)
	return classify(t.commit(ctx, src, report))
}

// interruptible says what the state of the target is when the program is ended
// by a signal before the returned function is called.
func (t *target) interruptible() (stop func()) {
	handle := atexit.Register(func() {
		fs.Errorf(t.o, "interrupted: the target is partly updated; the same command completes it")
	})
	return func() { atexit.Unregister(handle) }
}
