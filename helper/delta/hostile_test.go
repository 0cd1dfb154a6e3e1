package delta

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// peer is a link whose other end says what the test wants.
type peer struct {
	frames chan wire.Frame // closed at the end

	mu      sync.Mutex
	heard   map[wire.Type]int // hold mu
	queued  int               // frames; hold mu
	batches []int             // queued frames that went together; hold mu
}

func newPeer() *peer { return &peer{frames: make(chan wire.Frame), heard: map[wire.Type]int{}} }

// Next never calls idle, as if there were always a frame.
func (p *peer) Next(ctx context.Context, _ func() error) (wire.Frame, error) {
	select {
	case f, ok := <-p.frames:
		if !ok {
			return f, io.EOF
		}
		return f, nil
	case <-ctx.Done():
		return wire.Frame{}, context.Cause(ctx)
	}
}

func (p *peer) Write(m wire.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard[m.Type()]++
	p.sendQueued()
	return nil
}

func (p *peer) Queue(m wire.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard[m.Type()]++
	p.queued++
	return nil
}

func (p *peer) Flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sendQueued()
	return nil
}

// sendQueued notes how many were queued. Hold mu.
func (p *peer) sendQueued() {
	if p.queued > 0 {
		p.batches = append(p.batches, p.queued)
	}
	p.queued = 0
}

// say delivers a frame, and returns when the victim has drawn all its conclusions; false when it is gone.
func (p *peer) say(f wire.Frame, gone <-chan struct{}) bool {
	select {
	case p.frames <- f:
		synctest.Wait()
		return true
	case <-gone:
		return false
	}
}

// play runs the victim and says the messages, then ends the stream. It must be called in a bubble.
func play(victim func(context.Context, Link) error, messages ...wire.Message) error {
	p, gone := newPeer(), make(chan struct{})
	var err error
	go func() {
		defer close(gone)
		err = victim(context.Background(), p)
	}()
	synctest.Wait()
	for _, m := range messages {
		if !p.say(frame(m), gone) {
			break
		}
	}
	close(p.frames)
	<-gone
	return err
}

func frame(m wire.Message) wire.Frame {
	return wire.Frame{Type: m.Type(), Payload: wire.Marshal(nil, m)}
}

func digests(first int64, sums ...block.Digest) *wire.Digests {
	m := &wire.Digests{First: first}
	for _, d := range sums {
		m.Add(d)
	}
	return m
}

func blocks(extent int64, n int) *wire.Blocks {
	return &wire.Blocks{Extent: extent, Sums: make([]byte, n*block.ShortSize)}
}

func want(i int64) (m *wire.Want)       { m = new(wire.Want); m.Extent = i; return m }
func applied(i int64) (m *wire.Applied) { m = new(wire.Applied); m.Extent = i; return m }
func resend(i int64) (m *wire.Resend)   { m = new(wire.Resend); m.Extent = i; return m }

// victimSize is the length in bytes of the range of all victims: two extents, and a short one of two blocks.
const victimSize = 2*block.ExtentSize + 4096 + 100

func TestSend_ErrProtocol(t *testing.T) {
	source := image(victimSize, 1)
	other, zero := block.Sum([]byte("other")), block.ZeroExtent(block.ExtentSize, 4096)
	for _, tt := range []struct {
		name     string
		messages []wire.Message
	}{
		{"digests out of order", []wire.Message{digests(1, other)}},
		{"digests twice", []wire.Message{digests(0, other), digests(0, other)}},
		{"digests over the limit", []wire.Message{digests(0, other, other, other)}},
		{"digests over the end", []wire.Message{digests(0, zero), applied(0), digests(1, other, other, other)}},
		{"blocks of nothing", []wire.Message{blocks(0, 256)}},
		{"blocks not asked for", []wire.Message{digests(0, other), blocks(1, 256)}},
		{"blocks of a far extent", []wire.Message{digests(0, other), blocks(1<<40, 256)}},
		{"too few blocks", []wire.Message{digests(0, other), blocks(0, 255)}},
		{"too many blocks", []wire.Message{digests(0, other), blocks(0, 257)}},
		{"blocks twice", []wire.Message{digests(0, other), blocks(0, 256), blocks(0, 256)}},
		{"blocks for a first copy", []wire.Message{digests(0, zero), blocks(0, 256)}},
		{"applied nothing", []wire.Message{applied(0)}},
		{"applied before the patch", []wire.Message{digests(0, other), applied(0)}},
		{"applied twice", []wire.Message{digests(0, zero, zero), applied(0), applied(0)}},
		{"resend of nothing", []wire.Message{resend(0)}},
		{"resend before the patch", []wire.Message{digests(0, other), resend(0)}},
		{"resend twice", []wire.Message{digests(0, zero), resend(0), resend(0)}},
		{"resend after applied", []wire.Message{digests(0, zero, zero), applied(0), resend(0)}},
		{"finished at once", []wire.Message{&wire.Finished{}}},
		{"finished in between", []wire.Message{digests(0, zero), &wire.Finished{}}},
		{"a frame of a sender", []wire.Message{want(0)}},
		{"a frame of a session", []wire.Message{&wire.Done{}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := play(func(ctx context.Context, l Link) error {
					_, err := Send(ctx, l, memdev.FromBytes(source), rangeOf(victimSize, 4096), 2, compress.NewEncoder(wire.CompressAuto))
					return err
				}, tt.messages...)
				if !errors.Is(err, wire.CodeProtocol) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// Frames that come while an answer is still on its way find the extent in no state for them.
func TestSend_ErrProtocolInOneGo(t *testing.T) {
	zero := block.ZeroExtent(block.ExtentSize, 4096)
	s := &sender{window: 2, limit: 2, r: rangeOf(victimSize, 4096), theirs: make([]block.Digest, 2),
		known: make([]*extent, 2), wake: make(chan struct{}, 1)}
	s.theirs[0] = zero
	s.enter(&extent{index: 0, length: block.ExtentSize}, statePatched)
	if err := s.takeResend(0); err != nil {
		t.Fatal(err)
	}
	if err := s.takeApplied(0); !errors.Is(err, wire.CodeProtocol) {
		t.Errorf("applied what is still to be sent again: %v", err)
	}
	s.enter(&extent{index: 1, length: block.ExtentSize}, stateWanted)
	f := frame(blocks(1, 256))
	if err := s.takeBlocks(&f); err != nil {
		t.Fatal(err)
	}
	if err := s.takeBlocks(&f); !errors.Is(err, wire.CodeProtocol) {
		t.Errorf("block digests twice: %v", err)
	}
	if len(s.ready) != 2 {
		t.Errorf("two extents are ready %d times", len(s.ready))
	}
}

func kept(off, n int64) *wire.Gaps {
	return &wire.Gaps{Keep: true, List: []wire.Gap{{Offset: off, Length: n}}}
}

func patch(i int64, sum block.Digest, data int, runs ...wire.Run) *wire.Patch {
	return &wire.Patch{Extent: i, Digest: sum, Runs: runs, Data: bytes.Repeat([]byte{7}, data)}
}

func TestReceive_ErrProtocol(t *testing.T) {
	before := image(victimSize, 1)
	d := block.Sum([]byte("other"))
	one := wire.Run{First: 0, Count: 1}
	same := block.ExtentDigest(block.Digests(make([]block.Digest, 256), before[:1<<20], 4096))
	for _, tt := range []struct {
		name     string
		messages []wire.Message
	}{
		{"floor over what was announced", []wire.Message{&wire.Advance{Floor: 3, Limit: 3}}},
		{"floor far away", []wire.Message{&wire.Advance{Floor: 1 << 60, Limit: 1 << 60}}},
		{"floor goes back", []wire.Message{&wire.Advance{Floor: 2, Limit: 3}, &wire.Advance{Floor: 1, Limit: 3}}},
		{"want of what was not announced", []wire.Message{want(2)}},
		{"want far away", []wire.Message{want(1 << 60)}},
		{"want twice", []wire.Message{want(0), want(0)}},
		{"want of what is settled", []wire.Message{&wire.Advance{Floor: 1, Limit: 2}, want(0)}},
		{"want after resend", []wire.Message{patch(0, d, 0), want(0)}},
		{"patch of what was not announced", []wire.Message{patch(2, d, 0)}},
		{"patch of what is settled", []wire.Message{&wire.Advance{Floor: 1, Limit: 2}, patch(0, d, 0)}},
		{"patch twice", []wire.Message{patch(0, same, 0), patch(0, same, 0)}},
		{"patch without its data", []wire.Message{patch(0, d, 4095, one)}},
		{"patch with too much data", []wire.Message{patch(0, d, 4097, one)}},
		{"patch with data but no run", []wire.Message{patch(0, d, 1)}},
		{"patch with data for zeros", []wire.Message{patch(0, d, 4096, wire.Run{Zero: true, Count: 1})}},
		{"run past the extent", []wire.Message{patch(0, d, 4096, wire.Run{First: 256, Count: 1})}},
		{"zero run past the extent", []wire.Message{patch(0, d, 0, wire.Run{Zero: true, First: 255, Count: 2})}},
		{"run past the end", []wire.Message{&wire.Advance{Floor: 1, Limit: 3}, patch(2, d, 3*4096, wire.Run{Count: 3})}},
		{"gaps of what was not announced", []wire.Message{kept(2<<20, 1)}},
		{"gaps before the range", []wire.Message{&wire.Advance{Floor: 1, Limit: 3}, kept(0, 1)}},
		{"gaps over two extents", []wire.Message{kept(1<<20-1, 2)}},
		{"gaps far away", []wire.Message{kept(1<<60, 1)}},
		{"gaps that do not grow", []wire.Message{kept(5, 10), kept(500, 10)}},
		{"gaps of what is settled", []wire.Message{patch(0, same, 0), kept(5, 10)}},
		{"want after gaps", []wire.Message{kept(5, 10), want(0)}},
		{"finish at once", []wire.Message{&wire.Finish{}}},
		{"finish with an extent wanted", []wire.Message{want(1), &wire.Advance{Floor: 2, Limit: 3}, &wire.Advance{Floor: 3, Limit: 3}, &wire.Finish{}}},
		{"a frame of a receiver", []wire.Message{applied(0)}},
		{"a frame of a session", []wire.Message{&wire.Window{}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dev := memdev.FromBytes(before)
				err := play(func(ctx context.Context, l Link) error {
					_, err := Receive(ctx, l, dev, rangeOf(victimSize, 4096), 2)
					return err
				}, tt.messages...)
				if !errors.Is(err, wire.CodeProtocol) {
					t.Errorf("%v", err)
				}
				if len(dev.Log()) != 0 || dev.Counts().Syncs != 0 {
					t.Errorf("wrote %v", dev.Log())
				}
			})
		})
	}
}
