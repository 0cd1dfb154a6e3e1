package host

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Result is what the two ends of a transfer did.
type Result struct {
	Sender, Receiver wire.Summary
}

// Add adds the counters of another range.
func (r *Result) Add(o *Result) {
	r.Sender.Add(&o.Sender)
	r.Receiver.Add(&o.Receiver)
}

// Join brings range r of what is open on dst to the content of what is open on
// src: the helper of src sends, that of dst receives, and the frames pass through
// here. progress is called with the number of bytes settled since the last call.
// When Join returns an error, both requests have ended.
func Join(ctx context.Context, src, dst *Session, r block.Range, progress func(n int64)) (*Result, error) {
	var res Result
	if err := dst.start(wire.NewReceive(r, delta.Window)); err != nil {
		return nil, err
	}
	if err := src.start(wire.NewSend(r, delta.Window)); err != nil {
		dst.settle()
		return nil, err
	}
	floor := &floorMeter{r: r, progress: progress}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return src.await(ctx, func(f *wire.Frame) error {
			switch f.Type {
			case wire.TypeSummary:
				return f.Decode(&res.Sender)
			case wire.TypeAdvance:
				if err := floor.take(f); err != nil {
					return err
				}
			}
			return dst.forward(*f)
		})
	})
	g.Go(func() error {
		return dst.await(ctx, func(f *wire.Frame) error {
			if f.Type == wire.TypeSummary {
				return f.Decode(&res.Receiver)
			}
			return src.forward(*f)
		})
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return &res, nil
}

// SendTo is Join with a source in this process.
func SendTo(ctx context.Context, src delta.Source, dst *Session, r block.Range) (*Result, error) {
	if err := dst.start(wire.NewReceive(r, delta.Window)); err != nil {
		return nil, err
	}
	defer dst.settle()
	defer dst.limit(ctx)()
	sent, err := delta.Send(ctx, dst, src, r, delta.Window)
	if err != nil {
		return nil, err
	}
	res := &Result{Sender: *sent}
	return res, dst.reply(ctx, &res.Receiver)
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

// floorMeter turns Advance frames into progress.
type floorMeter struct {
	r        block.Range
	progress func(n int64)
	done     int64 // bytes reported
}

func (m *floorMeter) take(f *wire.Frame) error {
	var a wire.Advance
	if err := f.Decode(&a); err != nil {
		return err
	}
	if a.Floor > m.r.Extents() {
		return errors.New("protocol error: the sender settled more extents than there are")
	}
	n := min(a.Floor*block.ExtentSize, m.r.Length)
	m.progress(n - m.done)
	m.done = n
	return nil
}
