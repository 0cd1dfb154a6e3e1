package blockdev

import (
	"context"
	"errors"
	"path"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/object"
	"github.com/rclone/rclone/lib/atexit"

	"github.com/rclone-blockdev/rclone-blockdev/backend/deltafile"
	"github.com/rclone-blockdev/rclone-blockdev/backend/receipt"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// delivering is the application of a chain.
type delivering struct {
	t       *target
	chain   *deltafile.Chain
	parts   *parts
	report  *report
	resume  *resume
	sharing sharing
	hint    string // how to complete what was interrupted
}

// deliver brings o to the state that a chain leads to.
func (o *Object) deliver(ctx context.Context, chain *deltafile.Chain) (err error) {
	d := &delivering{chain: chain, report: &report{start: time.Now()}, resume: newResume(o), hint: "the same command completes it"}
	if !chain.Full() {
		d.hint = "the same command with -o continue=true completes it"
	}
	if d.t, err = o.openTarget(ctx, chain.Size); err != nil {
		return classify(err)
	}
	if err := d.prepare(ctx); err != nil {
		d.t.abort(nil)
		return classify(err)
	}
	defer d.t.endReceipt()
	handle := atexit.Register(func() { fs.Errorf(o, "interrupted: %s", d.t.partly(d.hint)) })
	defer atexit.Unregister(handle)
	src := object.NewStaticObjectInfo(path.Base(o.remote), chain.State.Time, chain.Size, true, nil, nil)
	err = d.resume.run(ctx, func(ctx context.Context) error { return d.work(ctx, src) }, d.reopen)
	if err != nil {
		d.abort(err)
	}
	return classify(err)
}

// prepare is what comes between opening the target and the first write.
func (d *delivering) prepare(ctx context.Context) error {
	if have := d.t.lead.opened.Size; have < d.chain.Size {
		return refuse("%s has %d bytes and the state of %s %d", d.t.at, have, d.chain.Last, d.chain.Size)
	}
	if err := d.t.announce(ctx, nil); err != nil {
		return err
	}
	if err := d.t.pin(); err != nil {
		return once(ctx, err)
	}
	end := func() receipt.End { return receipt.End{Name: d.chain.Last, Kind: "stream", Size: d.chain.Size} }
	d.parts = newParts(block.Stripes(d.chain.Size, d.chain.BlockSize))
	return d.t.keepReceipt(ctx, end, d.chain.Size, d.chain.BlockSize, d.report.start)
}

// abort is that of the target, with another way to go on.
func (d *delivering) abort(err error) {
	if (!d.t.isNew() || d.t.unsure.Load()) && !errors.Is(err, errReceipt) {
		fs.Errorf(d.t.o, "stopped before the end: %s", d.t.partly(d.hint))
	}
	if isLost(err) {
		d.t.lead.release()
	}
	d.t.abort(nil)
}

// work does all that is left.
func (d *delivering) work(ctx context.Context, src fs.ObjectInfo) error {
	streams := min(d.t.streams(false), d.parts.left())
	lead := func(ctx context.Context) error { return d.stripes(ctx, d.t.lead) }
	err := d.sharing.run(ctx, d.t.o, streams, lead, func(ctx context.Context) (func() error, error) {
		l, err := d.t.join(ctx)
		return func() error {
			defer l.close()
			return d.stripes(ctx, l)
		}, err
	})
	if err != nil {
		return err
	}
	return d.t.commit(ctx, src, d.report)
}

// stripes does parts until none is left.
func (d *delivering) stripes(ctx context.Context, l *lease) error {
	defer d.report.join(l)()
	for {
		p, ok := d.parts.next(1)
		if !ok {
			return context.Cause(ctx)
		}
		digests, err := d.chain.Digests(p.Range)
		if err != nil {
			return err
		}
		first := p.Offset / block.ExtentSize
		d.sharing.tell(l)
		res, err := l.s.Deliver(ctx, p.Range, digests, func(m *wire.Patch) error { return d.patch(first+m.Extent, m) })
		if err != nil {
			d.parts.giveBack(p)
			return err
		}
		d.parts.finish(p)
		d.resume.progress()
		d.report.settle(p.Range, res)
	}
}

// patch fills in what was kept of extent i.
func (d *delivering) patch(i int64, m *wire.Patch) error {
	rec, err := d.chain.Record(i)
	if errors.Is(err, deltafile.ErrUnknown) {
		return wire.Errorf(wire.CodeCorrupted, "%s: the MiB at byte %d is not that of the state before: somebody else has written to it", d.t.at, i*block.ExtentSize)
	}
	if err != nil {
		return err
	}
	m.Encoding, m.Data, m.Runs = rec.Encoding, rec.Data, append(m.Runs, rec.Runs...)
	return nil
}

// reopen opens the target again.
func (d *delivering) reopen(ctx context.Context) error {
	void, err := d.t.reopen(ctx, d.report)
	if void {
		d.parts.forget()
		d.report.forget()
	}
	return err
}
