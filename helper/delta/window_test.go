package delta

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Between more holes than a window has, and more data than may be waited for, both ends go on, whichever of them has
// which.
func TestTransfer_MixedHoles(t *testing.T) {
	const extents = Window + 1000
	r := block.Range{Length: extents * block.ExtentSize, BlockSize: block.ExtentSize}
	rng := rand.New(rand.NewPCG(5, 9))
	src, tgt := memdev.New(r.Length), memdev.New(r.Length)
	for i := range int64(extents) {
		dense := i < 2*mostRead || i%1000 < 20
		for _, d := range []*memdev.Device{src, tgt} {
			if !dense && rng.IntN(40) != 0 {
				continue
			}
			at := i*block.ExtentSize + int64(rng.IntN(3))
			if _, err := d.WriteAt([]byte{1}, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, delay := range []time.Duration{0, 20 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			tr := transfer{src: src, tgt: tgt, r: r, window: Window, buffer: 1 << 20, inbox: 16, delay: delay}
			s, rc := tr.join(t.Context())
			if s.err != nil || rc.err != nil {
				t.Fatalf("delay %v: sender %v, receiver %v", delay, s.err, rc.err)
			}
			if s.sum.Holes == 0 || s.sum.Scanned == 0 || delay == 0 && rc.sum.Data == 0 {
				t.Errorf("delay %v: %+v", delay, rc.sum)
			}
		})
	}
	a, err := Root(t.Context(), src, r, func(int64) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if b, err := Root(t.Context(), tgt, r, func(int64) error { return nil }); err != nil || a != b {
		t.Errorf("the target differs: %v", err)
	}
}

// dense is a device with data in each of its extents, of which it stores a little.
func dense(t *testing.T, extents int64) *memdev.Device {
	t.Helper()
	d := memdev.New(extents * block.ExtentSize)
	for i := range extents {
		if _, err := d.WriteAt([]byte{1}, i*block.ExtentSize); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// Data that nobody has settled is not read on and on: digests of its blocks take memory.
func TestScanner_MostRead(t *testing.T) {
	const extents = 3 * mostRead
	d := dense(t, extents)
	synctest.Test(t, func(t *testing.T) {
		s := newScanner(d, block.Range{Length: extents * block.ExtentSize, BlockSize: block.ExtentSize}, Window, false)
		for range s.workers() {
			go func() {
				if err := s.run(t.Context()); err != nil && t.Context().Err() == nil {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		if s.next > mostRead {
			t.Errorf("%d extents were read, and %d may be", s.next, mostRead)
		}
		for i := range int64(extents) {
			e, err := s.await(t.Context(), i)
			if err != nil {
				t.Fatal(err)
			}
			s.recycle(e)
		}
		synctest.Wait()
		if len(s.sums) != cap(s.sums) || len(s.free) != cap(s.free) {
			t.Errorf("given back: %d of %d, and %d of %d extents", len(s.sums), cap(s.sums), len(s.free), cap(s.free))
		}
		s.retire()
	})
}

// Who only listens tells the receiver in time what it may forget: it reads no further before.
func TestListen_MostRead(t *testing.T) {
	const extents = 3 * mostRead
	d := dense(t, extents)
	synctest.Test(t, func(t *testing.T) {
		tr := transfer{src: d, tgt: d, r: block.Range{Length: extents * block.ExtentSize, BlockSize: block.ExtentSize}, window: Window, buffer: 1 << 16, inbox: 4, dry: true}
		heard := int64(0)
		tr.send = func(ctx context.Context, l Link, _ Source, r block.Range, window int64) (*wire.Summary, error) {
			root, err := Listen(ctx, l, r, window, func(int64, block.Digest) error { heard++; return nil })
			return &wire.Summary{Root: root}, err
		}
		s, rc := tr.join(t.Context())
		if s.err != nil || rc.err != nil || heard != extents {
			t.Errorf("%d digests; sender %v, receiver %v", heard, s.err, rc.err)
		}
	})
}

// stale is a device whose file system says that it is empty, as before somebody else has written to it.
type stale struct{ *memdev.Device }

func (stale) Data(off, end int64) (int64, int64, error) { return end, end, nil }

// Gaps may be named in what was a hole when it was looked at, and as many as a source may have.
func TestReceive_GapsInHoles(t *testing.T) {
	const extents, each = 40, 1800
	r := block.Range{Length: extents * block.ExtentSize, BlockSize: block.ExtentSize}
	for n, want := range map[int64]error{1: io.EOF, maxGaps / each: io.EOF, maxGaps/each + 1: wire.CodeProtocol} {
		d := memdev.New(r.Length)
		if _, err := d.WriteAt([]byte{1}, 100); err != nil {
			t.Fatal(err)
		}
		var messages []wire.Message
		for i := range n {
			gaps := &wire.Gaps{Keep: true}
			for k := range int64(each) {
				gaps.List = append(gaps.List, wire.Gap{Offset: i*block.ExtentSize + 2*k*256, Length: 256})
			}
			messages = append(messages, gaps)
		}
		synctest.Test(t, func(t *testing.T) {
			err := play(func(ctx context.Context, l Link) error {
				_, err := Receive(ctx, l, stale{d}, r, Window)
				return err
			}, messages...)
			if !errors.Is(err, want) {
				t.Errorf("gaps in %d extents: %v", n, err)
			}
		})
	}
}
