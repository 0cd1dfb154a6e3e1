package host

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Result is what the two ends of a transfer did.
type Result struct {
	Sender, Receiver wire.Summary
	Empty            int64 // bytes that are zero on both ends, as far as Trace tells
}

// Add adds the counters of another range.
func (r *Result) Add(o *Result) {
	r.Sender.Add(&o.Sender)
	r.Receiver.Add(&o.Receiver)
	r.Empty += o.Empty
}

// Join brings range r of what is open on dst to the content of what is open on
// src: the helper of src sends, that of dst receives, and the frames pass through
// here. progress is called with the number of bytes settled since the last call.
// Neither helper is trusted: only frames of a transfer pass, and success is what
// both say alike. When Join returns an error, both requests have ended.
func Join(ctx context.Context, src, dst *Session, r block.Range, progress func(n int64)) (*Result, error) {
	return join(ctx, src, dst, r, false, progress)
}

// Compare is Join without moving or writing anything: the result says what Join
// would do. What is open on dst is open for reading; where it is an image file, r
// may go past its end.
func Compare(ctx context.Context, src, dst *Session, r block.Range, progress func(n int64)) (*Result, error) {
	return join(ctx, src, dst, r, true, progress)
}

func join(ctx context.Context, src, dst *Session, r block.Range, dry bool, progress func(n int64)) (*Result, error) {
	send, receive := src.toSend(r, delta.Window), dst.toReceive(r)
	send.Compare, receive.Compare = dry, dry
	send.Compress = compression(src, dst)
	if err := dst.start(receive); err != nil {
		return nil, err
	}
	if err := src.start(send); err != nil {
		dst.settle()
		return nil, err
	}
	var res Result
	var held *tally
	if !dry {
		held = dst.tally(r)
	}
	trace := newTracer(src, r)
	floor := &floorMeter{r: r, progress: progress, trace: trace}
	patches := &patchMeter{r: r, dry: dry, moved: src.moved, trace: trace}
	finish := false // the source has said that it is through
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := src.relay(ctx, dst, &res.Sender, func(f *wire.Frame) error {
			switch f.Type {
			case wire.TypeGaps:
				return src.takeGaps(f, r)
			case wire.TypeAdvance:
				return floor.take(f)
			case wire.TypeWant:
				return nil
			case wire.TypePatch:
				if err := patches.take(f); err != nil {
					return err
				}
				return held.relayed(f)
			case wire.TypeFinish:
				finish = true
				return nil
			case wire.TypeSummary:
				if finish {
					return nil
				}
			}
			return ignore(f)
		})
		return unreadable(err)
	})
	g.Go(func() error {
		return dst.relay(ctx, src, &res.Receiver, func(f *wire.Frame) error {
			switch f.Type {
			case wire.TypeDigests:
				return cmp.Or(held.announced(f), trace.digests(f))
			case wire.TypeBlocks, wire.TypeApplied, wire.TypeFinished, wire.TypeSummary:
				return nil
			case wire.TypeResend:
				if !dry {
					return nil
				}
			}
			return ignore(f)
		})
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := res.check(r); err != nil {
		return &res, err
	}
	res.Empty = trace.emptied()
	return &res, held.hand(dst, res.Receiver.Root)
}

// relay passes the frames of the running request on to other, those that come together
// together, until the request ends, and keeps its summary. allow refuses what may not come
// now, above all what other must not be told.
func (s *Session) relay(ctx context.Context, other *Session, sum *wire.Summary, allow func(*wire.Frame) error) error {
	ended := false
	err := s.awaitIdle(ctx, other.Flush, func(f *wire.Frame) error {
		if ended {
			return ignore(f)
		}
		if err := allow(f); err != nil {
			return err
		}
		if f.Type == wire.TypeSummary {
			ended = true
			if err := other.Flush(); err != nil { // nothing more comes
				return err
			}
			return f.Decode(sum)
		}
		return other.forward(*f)
	})
	if err == nil && !ended {
		err = fmt.Errorf("protocol error: the helper on %s ended a transfer without a summary", s.host.name)
	}
	return err
}

// check refuses a success that the two ends do not describe alike.
func (r *Result) check(span block.Range) error {
	for _, sum := range []*wire.Summary{&r.Sender, &r.Receiver} {
		if sum.Equal+sum.Data+sum.Zeroed != span.Length || sum.Scanned+sum.Holes != span.Length {
			return fmt.Errorf("protocol error: a helper accounts for other bytes than the %d of the range", span.Length)
		}
	}
	if r.Sender.Root != r.Receiver.Root {
		e := wire.Errorf(wire.CodeCorrupted, "the two ends differ after the transfer of %d bytes at byte %d: copy again", span.Length, span.Offset)
		e.Offset = span.Offset
		return e
	}
	return nil
}

// SendTo is Join with a source in this process.
func SendTo(ctx context.Context, src delta.Source, dst *Session, r block.Range) (*Result, error) {
	if err := dst.start(dst.toReceive(r)); err != nil {
		return nil, err
	}
	defer dst.settle()
	defer dst.limit(ctx)()
	var link delta.Link = dst
	held := dst.tally(r)
	if held != nil {
		link = tallied{dst, held}
	}
	sent, err := delta.Send(ctx, link, src, r, delta.Window, dst.squeeze.Begin(dst.compression()))
	if err != nil {
		return nil, err
	}
	res := &Result{Sender: *sent}
	if err := dst.reply(ctx, &res.Receiver); err != nil {
		return nil, err
	}
	if err := res.check(r); err != nil {
		return res, err
	}
	return res, held.hand(dst, res.Receiver.Root)
}

// ReceiveFrom is Join with a target in this process. window is in extents.
func ReceiveFrom(ctx context.Context, src *Session, tgt delta.Target, r block.Range, window int64) (*Result, error) {
	if err := src.start(src.toSend(r, window)); err != nil {
		return nil, err
	}
	defer src.settle()
	defer src.limit(ctx)()
	got, err := delta.Receive(ctx, gapped{src, r}, tgt, r, window)
	if err != nil {
		return nil, unreadable(err)
	}
	res := &Result{Receiver: *got}
	if err := src.reply(ctx, &res.Sender); err != nil {
		return nil, err
	}
	return res, res.check(r)
}

// limit gives the session up when ctx has ended for some time and stop was not
// called: a helper that takes nothing any more keeps a sender from ending.
func (s *Session) limit(ctx context.Context) (stop func()) {
	stopped := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		select {
		case <-stopped:
		case <-time.After(s.drain):
			s.stream.Close()
		}
	})
	return func() {
		unhook()
		close(stopped)
	}
}
