package delta

import (
	"context"
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// converse has a sender hear and write at once. The error is what ended the one that ended
// first.
func converse(ctx context.Context, link Link, take func(*wire.Frame) error, write func(context.Context) error) error {
	writing, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	hearing, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	var heard sync.WaitGroup
	heard.Go(func() { hear(hearing, link, take, fail) })
	err := write(writing)
	if err != nil && writing.Err() != nil {
		err = context.Cause(writing)
	}
	stop(err)
	heard.Wait()
	return err
}

// hear gives the frames of the receiver to take until it has finished. take checks each
// against what the receiver may say now, so that what is stored is bounded by the window.
// When it refuses one, the transfer has failed, as when the link has; what comes then, or
// when the transfer has failed otherwise, is still taken off the link until ctx ends, which
// is when nobody writes to the receiver any more: one that cannot write does not read
// either, and who writes to it would wait for ever.
func hear(ctx context.Context, link Link, take func(*wire.Frame) error, fail context.CancelCauseFunc) {
	refused := false
	var f wire.Frame // one for all: take would have each allocated
	for {
		var err error
		if f, err = link.Next(ctx, nil); err != nil {
			fail(err)
			return
		}
		if !refused {
			if err := take(&f); err != nil {
				refused = true
				fail(err)
			}
		}
		f.Release()
		if !refused && f.Type == wire.TypeFinished {
			return
		}
	}
}

// take stores one frame of the receiver.
func (s *sender) take(f *wire.Frame) error {
	defer s.signal()
	switch f.Type {
	case wire.TypeDigests:
		return s.takeDigests(f)
	case wire.TypeBlocks:
		return s.takeBlocks(f)
	case wire.TypeApplied:
		if err := f.Decode(&s.applied); err != nil {
			return err
		}
		return s.takeApplied(s.applied.Extent)
	case wire.TypeResend:
		var m wire.Resend
		if err := f.Decode(&m); err != nil {
			return err
		}
		return s.takeResend(m.Extent)
	case wire.TypeFinished:
		m := new(wire.Finished)
		if err := f.Decode(m); err != nil {
			return err
		}
		return s.takeFinished(m)
	}
	return unexpected(f)
}

func (s *sender) takeDigests(f *wire.Frame) error {
	m := &s.digests
	if err := f.Decode(m); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(m.Len())
	if m.First != s.heard || s.heard+n > min(s.limit, s.r.Extents()) {
		return wire.Errorf(wire.CodeProtocol, "protocol error: digests of extents %d to %d, expected %d and at most %d", m.First, m.First+n, s.heard, s.limit)
	}
	for i := range n {
		s.theirs[(s.heard+i)%s.window] = m.At(int(i))
	}
	s.heard += n
	return nil
}

func (s *sender) takeBlocks(f *wire.Frame) error {
	m := &s.blocks
	if err := f.Decode(m); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.extent(m.Extent)
	if e == nil || e.state != stateWanted || len(e.short) != 0 || m.Len() != block.Count(e.length, s.r.BlockSize) {
		return wire.Errorf(wire.CodeProtocol, "protocol error: block digests of extent %d were not asked for", m.Extent)
	}
	e.short = append(e.short, m.Sums...)
	s.ready = append(s.ready, e)
	return nil
}

// extent returns extent i when it is compared and not settled for good. Hold mu.
func (s *sender) extent(i int64) *extent {
	if i < s.oldest || i >= s.oldest+s.window {
		return nil
	}
	return s.known[i%s.window]
}

// takeApplied marks an extent that run may settle.
func (s *sender) takeApplied(i int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.extent(i)
	if e == nil || e.state != statePatched && e.state != stateResent {
		return wire.Errorf(wire.CodeProtocol, "protocol error: extent %d was applied but not sent", i)
	}
	e.state = stateSettled
	return nil
}

// takeResend queues the whole extent, once: a second failure is no accident of
// truncated digests.
func (s *sender) takeResend(i int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finishing {
		return s.takeRepair(i)
	}
	e := s.extent(i)
	if e == nil || e.state != statePatched || s.dry {
		return wire.Errorf(wire.CodeProtocol, "protocol error: resending of extent %d makes no sense", i)
	}
	e.state = stateRefused
	s.ready = append(s.ready, e)
	return nil
}

func (s *sender) takeFinished(m *wire.Finished) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.finishing {
		return wire.Errorf(wire.CodeProtocol, "protocol error: the receiver finished before the sender")
	}
	s.finished = m
	return nil
}

// signal wakes run.
func (s *sender) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // run has not seen the last signal yet: it will find both
	}
}

func unexpected(f *wire.Frame) error {
	return wire.Errorf(wire.CodeProtocol, "protocol error: frame of type %#02x during a transfer", uint8(f.Type))
}

// corrupted says that n bytes at off are not what they should be.
func corrupted(off, n int64, why string) error {
	e := wire.Errorf(wire.CodeCorrupted, "%d bytes at byte %d: %s: copy again", n, off, why)
	e.Offset = off
	return e
}
