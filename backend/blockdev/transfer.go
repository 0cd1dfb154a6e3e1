package blockdev

import (
	"cmp"
	"context"
	"io"
	"sync"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/lib/atexit"
	"github.com/rclone/rclone/lib/transferaccounter"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/backend/receipt"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
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
	return o.transfer(ctx, src, from, src.fs.opt.ReadErrors, acc.Add)
}

// transfer brings o to the content of what is at from, between helpers: several
// stripes at once, the frames passing through this process. progress is called
// with the number of bytes settled, from several goroutines. Where the source cannot
// be read, how says what becomes of it: then the error is the last thing that happens.
func (o *Object) transfer(ctx context.Context, src fs.ObjectInfo, from place, how ReadErrors, progress func(n int64)) error {
	if err := o.fillsGaps(how); err != nil {
		return once(ctx, err)
	}
	c := &copying{from: from, plan: planOf(ctx), report: &report{start: time.Now()}, resume: newResume(o)}
	var err error
	if c.around, err = readingOf(src, from); err != nil {
		return err
	}
	done := false
	defer func() { c.around.finish(done) }()
	if c.source, err = openWithin(ctx, from, wire.ReadErrors(how), c.around, false); err != nil {
		return classify(err)
	}
	defer func() { c.source.close() }()
	if c.source.opened.Size != src.Size() {
		// rclone compares with the size it knows, and would remove the target.
		return classify(wire.Errorf(wire.CodeSource, "%s: had %d bytes when it was listed and has %d now: it changes while it is copied",
			src.Remote(), src.Size(), c.source.opened.Size))
	}
	if c.t, err = o.openTarget(ctx, src.Size()); err != nil {
		return classify(err)
	}
	if err := c.distinct(); err != nil {
		c.t.abort(nil)
		return err
	}
	if err := c.t.announceFrom(ctx, c.source); err != nil {
		c.t.abort(nil)
		return classify(err)
	}
	if err := c.t.pin(); err != nil {
		c.t.abort(nil)
		return once(ctx, err)
	}
	end := func() receipt.End { return c.source.receiptEnd(ctx, from) }
	if err := c.t.keepReceipt(ctx, end, src.Size(), c.plan.blockSize(), c.report.start); err != nil {
		c.t.abort(nil)
		return err
	}
	defer c.t.endReceipt()
	size := min(src.Size(), c.t.lead.opened.Size)
	c.journal = o.newJournal(from, c.t.at, size)
	c.plan.Meter.begin(c.report)
	limited, progress, outcome := newLimit(ctx).watch(ctx, c.plan.Meter.settle(progress))
	c.progress = func(n int64) {
		c.resume.progress()
		progress(n)
	}
	defer c.t.interruptible()()
	limited, over := c.gently(limited)
	defer over()
	if err := c.beginTrust(limited, how); err != nil {
		c.t.abort(err)
		return classify(err)
	}
	c.parts = newParts(c.trusting.rest(c.journal.order(block.Stripes(size, c.plan.blockSize()))))
	err = outcome(c.resume.run(limited, func(ctx context.Context) error { return c.work(ctx, src) }, c.reopen))
	c.journal.end(err)
	if err != nil {
		c.t.abort(err)
		return classify(c.around.explain(ctx, err))
	}
	err = c.report.gaps.outcome().conclude(ctx, o, how)
	done = err == nil
	return err
}

// copying is a transfer between helpers.
type copying struct {
	t        *target
	source   *lease
	around   *user // of the source
	from     place
	plan     *Plan
	parts    *parts
	report   *report
	resume   *resume
	journal  *journal
	trusting *trusting
	progress func(n int64)

	sharing sharing
	streams int  // that share what is left, of divide
	far     bool // a round trip is long, of divide
	broken  bool // a connection was lost
}

// work does all that is left.
func (c *copying) work(ctx context.Context, src fs.ObjectInfo) error {
	err := c.stripes(ctx)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = c.around.check(ctx, c.source.made)
	}
	if err != nil {
		return err
	}
	c.report.trusted = c.trusting.bytes()
	return c.t.commit(ctx, src, c.report)
}

// stripes joins source and target on all stripes that are left.
func (c *copying) stripes(ctx context.Context) error {
	streams := min(c.t.streams(c.source.opened.Entry.Rotational), c.parts.left()+c.trusting.left())
	c.divide(streams)
	first := c.share()
	widening, narrow := context.WithCancel(ctx)
	defer narrow()
	left := int64(c.parts.left()) * block.StripeSize
	widen := sync.OnceFunc(func() { c.widen(widening, left) })
	lead := func(ctx context.Context) error {
		defer narrow() // nothing is left
		return c.join(ctx, c.source, c.t.lead, first)
	}
	return c.sharing.run(ctx, c.t.o, streams, lead, func(ctx context.Context) (func() error, error) {
		widen()
		src, dst, err := c.t.follow(ctx, c.source)
		return func() error {
			defer dst.close()
			defer src.close()
			return c.join(ctx, src, dst, first)
		}, err
	})
}

// mostTogether is how many stripes are one where nothing is but holes: a terabyte has
// thousands, and beginning and ending one then costs more than all of its content.
const mostTogether = 64

// Beginning and ending a range takes four round trips. Where these are that long, it is a
// sixth of the time in which a fast disk reads a stripe, so that up to mostFar stripes are
// one range. It is also what a broken connection has compared again.
const (
	farAway = 20 * time.Millisecond
	mostFar = 4
)

// divide says how many streams share what is left, and whether far away: not by one stream
// alone, which disks that turn have and others that are to be left in peace, not after a
// connection has broken, when pieces are what may get through, and not where whole ranges
// are to be trusted after an interruption.
func (c *copying) divide(streams int) {
	c.streams = streams
	c.far = streams > 1 && max(c.source.s.Fastest(), c.t.lead.s.Fastest()) >= farAway && !c.broken && c.t.o.fs.opt.Resume != resumeTrust
}

// To log in once more and to start helpers there takes the processors 0.1 s. With two
// connections in place of one, they need a tenth less for what is sent, 0.2 s for a GiB. What
// was there before is the copy of the night before, of which most has stayed the same.
const (
	wideFrom    = 1 << 30 // bytes
	mostlyEqual = 16      // of so many bytes one may have to be sent
)

// widen has half of the streams use a second connection where much may have to be sent, of
// at most so many bytes.
func (c *copying) widen(ctx context.Context, sent int64) {
	if used := c.source.opened.Entry.Allocated; used >= 0 {
		sent = min(sent, used)
	}
	if !c.t.isNew() {
		sent /= mostlyEqual
	}
	if sent < wideFrom {
		return
	}
	c.source.s.Widen(ctx, c.streams/2)
	c.t.lead.s.Widen(ctx, c.streams/2)
}

// share is how many parts the next range has: at the end single ones, so that all streams
// end at the same time.
func (c *copying) share() int {
	if !c.far {
		return 1
	}
	return min(max(c.parts.left()/c.streams, 1), mostFar)
}

// join does parts until none is left, of which the first range has so many.
func (c *copying) join(ctx context.Context, src, dst *lease, first int) error {
	defer c.report.join(src, dst)()
	src.s.Watch(c.plan.Meter.moved)
	src.s.Trace(c.plan.Mark)
	for together := first; ; {
		p, ok := c.parts.next(together)
		if !ok {
			if more, err := c.goByRoot(ctx, src); !more || err != nil {
				return err
			}
			continue
		}
		var found gaps // those of a part that is done again are found again
		src.salvage(&found)
		c.sharing.tell(src, dst)
		res, err := host.Join(ctx, src.s, dst.s, p.Range, p.meter(c.progress))
		if err != nil {
			c.parts.giveBack(p)
			return err
		}
		c.parts.finish(p)
		c.journal.finish(p.Range, res.Receiver.Root)
		c.report.settle(p.Range, res)
		c.report.gaps.join(&found)
		if res.Sender.Holes == p.Length && res.Receiver.Holes == p.Length {
			together = min(2*together, mostTogether)
		} else {
			together = c.share()
		}
	}
}

// reopen opens again what a lost connection has closed. What was done stays done,
// unless a host was started anew: names may lead elsewhere since.
func (c *copying) reopen(ctx context.Context) error {
	c.broken = true
	anew := false
	if !c.source.usable() {
		c.source.release()
		again, err := openWithin(ctx, c.from, c.source.how, c.around, false)
		if err != nil {
			return err
		}
		anew = restarted(c.source.s, again.s) || again.made != c.source.made
		if err := c.source.same(again, anew); err != nil {
			again.close()
			return err
		}
		c.source = again
	}
	lead := c.t.lead
	lost, err := c.t.reopen(ctx, c.report)
	if anew || lost {
		c.parts.forget()
		c.trusting.end(c.parts, c.plan.blockSize())
		err = cmp.Or(err, c.journal.forget())
		c.report.forget()
	}
	if err != nil {
		return err
	}
	if c.trusting != nil && c.t.lead != lead {
		if err := c.prove(ctx, false); err != nil {
			return err
		}
	}
	return c.distinct()
}

// distinct refuses to copy an object onto itself.
func (c *copying) distinct() error {
	id := identity(c.source.s, c.source.opened.Entry)
	if id == "" || id != identity(c.t.lead.s, c.t.lead.opened.Entry) {
		return nil
	}
	return refuse("%s:%s is the same %s as the source %s:%s", c.t.at.host, c.t.at.path, kindName(c.t.lead.opened.Entry), c.from.host, c.from.path)
}

// receive brings o to the content of in, which can be read only once and is compared
// on this side.
func (o *Object) receive(ctx context.Context, in io.Reader, src fs.ObjectInfo) error {
	s := &streaming{plan: planOf(ctx), report: &report{start: time.Now()}, resume: newResume(o)}
	var err error
	if s.t, err = o.openTarget(ctx, src.Size()); err != nil {
		return classify(err)
	}
	if in, err = s.t.announceStream(ctx, unthrottled(ctx, in), src.Size()); err != nil {
		s.t.abort(nil)
		return classify(err)
	}
	if err := s.t.pin(); err != nil {
		s.t.abort(nil)
		return once(ctx, err)
	}
	end := func() receipt.End { return streamEnd(src) }
	if err := s.t.keepReceipt(ctx, end, src.Size(), s.plan.blockSize(), s.report.start); err != nil {
		s.t.abort(nil)
		return err
	}
	defer s.t.endReceipt()
	s.plan.Meter.begin(s.report)
	s.kept = newReplay(s.plan.Meter.read(in), src.Size(), min(s.t.lead.opened.Size, src.Size()), s.plan.blockSize())
	defer s.t.interruptible()()
	err = s.resume.run(ctx, func(ctx context.Context) error { return s.work(ctx, src) }, s.reopen)
	if err != nil {
		s.t.abort(err)
	}
	return classify(err)
}

// interruptible says what the state of the target is when the program is ended
// by a signal before the returned function is called.
func (t *target) interruptible() (stop func()) {
	handle := atexit.Register(func() {
		fs.Errorf(t.o, "interrupted: %s", t.partly(sameCommand))
	})
	return func() { atexit.Unregister(handle) }
}
