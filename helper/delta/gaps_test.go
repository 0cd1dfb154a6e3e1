package delta

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// told collects what a sender says could not be read.
type told struct {
	mu    sync.Mutex
	keep  bool
	pages map[int64]bool // hold mu
}

func (g *told) sent(m wire.Message) {
	if m, ok := m.(*wire.Gaps); ok {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.keep = m.Keep
		for _, x := range m.List {
			for at := x.Offset; at < x.End(); at += 4096 {
				g.pages[at] = true
			}
		}
	}
}

// solid has no holes: its zeros have to be read.
type solid struct{ *memdev.Device }

func (solid) Data(off, end int64) (start, stop int64, err error) { return off, end, nil }

// salvaged is what the target must hold: source, but in the pages that are bad.
func salvaged(source, before []byte, bad []int64, keep bool) []byte {
	want := bytes.Clone(source)
	for _, off := range bad {
		from := off &^ 4095
		to := min(from+4096, int64(len(want)))
		if keep {
			copy(want[from:to], before[from:to])
		} else {
			clear(want[from:to])
		}
	}
	return want
}

// Where the source cannot be read the target gets zeros, or keeps what it has. All the rest is proved as ever, and
// all places are told.
func TestTransfer_Gaps(t *testing.T) {
	const size = 3*block.ExtentSize + 5000
	source := image(size, 1)
	clear(source[1<<20 : 2<<20]) // nothing but zeros and a gap
	bad := []int64{0, 5 << 12, 6<<12 + 77, 1<<20 + 4096, 2<<20 + 300_000, 3<<20 - 1, size - 1}
	for _, keep := range []bool{false, true} {
		for _, shape := range shapes(size) {
			for name, before := range targets(source, shape.blockSize) {
				for _, dry := range []bool{false, true} {
					t.Run(fmt.Sprintf("%v/%d/%d/%s/%v", keep, shape.blockSize, shape.window, name, dry), func(t *testing.T) {
						src, dev := memdev.FromBytes(source), memdev.FromBytes(before)
						breakAt(src, bad...)
						got := told{pages: map[int64]bool{}}
						tr := transfer{src: NewSalvage(solid{src}, size, keep, isBad), tgt: dev, r: rangeOf(size, shape.blockSize), window: shape.window, buffer: 1 << 20, dry: dry}
						tr.prepare = func(s, _ *link) { s.sent = got.sent }
						s, r := tr.run(t)
						if s.err != nil || r.err != nil {
							t.Fatalf("sender: %v, receiver: %v", s.err, r.err)
						}
						want := salvaged(source, before, bad, keep)
						if dry {
							want = before
						}
						if !bytes.Equal(dev.Bytes(), want) {
							t.Error("the target holds something else")
						}
						for _, sum := range []*wire.Summary{s.sum, r.sum} {
							if sum.Equal+sum.Data+sum.Zeroed != size || sum.Scanned+sum.Holes != size {
								t.Errorf("counters do not add up: %+v", sum)
							}
						}
						if s.sum.Root != r.sum.Root || !dry && s.sum.Root != wantRoot(salvaged(source, before, bad, false), shape.blockSize) {
							t.Error("the roots are not those of what could be read")
						}
						for _, off := range bad {
							if !got.pages[off&^4095] {
								t.Errorf("byte %d was not told", off)
							}
						}
						if len(got.pages) != len(bad) || got.keep != keep {
							t.Errorf("told %v, keep %v", got.pages, got.keep)
						}
					})
				}
			}
		}
	}
}

// Places that can be read at first, and not when the extent is read again for its patch, are no different.
func TestTransfer_GapsAppear(t *testing.T) {
	const extents = 3 * Hold
	const size = extents * block.ExtentSize
	source, before := image(size, 1), image(size, 2)
	clear(source[9<<20 : 10<<20]) // becomes a wanted extent as well: the target has data there
	bad := []int64{1<<20 + 5, 9<<20 + 4096, 12 << 20, 12<<20 + 40960, 20<<20 - 1}
	for _, keep := range []bool{false, true} {
		for after := range 3 {
			src, dev := memdev.FromBytes(source), memdev.FromBytes(before)
			for _, off := range bad {
				src.Inject(memdev.Fault{Op: memdev.Read, Off: off, After: after, Err: errBad})
			}
			got := told{pages: map[int64]bool{}}
			tr := transfer{src: NewSalvage(solid{src}, size, keep, isBad), tgt: dev, r: rangeOf(size, 4096), window: Window, buffer: 64 << 20, inbox: 1024, delay: 20 * time.Millisecond}
			tr.prepare = func(s, _ *link) { s.sent = got.sent }
			synctest.Test(t, func(t *testing.T) {
				if s, r := tr.join(t.Context()); s.err != nil || r.err != nil {
					t.Errorf("keep %v, after %d: sender %v, receiver %v", keep, after, s.err, r.err)
				}
			})
			now := dev.Bytes()
			var struck []int64
			for _, off := range bad {
				if got.pages[off&^4095] {
					struck = append(struck, off)
				}
			}
			if len(struck) != len(got.pages) || after == 1 && len(struck) == 0 || after == 0 && len(struck) != len(bad) {
				t.Errorf("keep %v, after %d: told %v", keep, after, got.pages)
			}
			if !bytes.Equal(now, salvaged(source, before, struck, keep)) {
				t.Errorf("keep %v, after %d: the target holds something else", keep, after)
			}
		}
	}
}

// Blocks that only look alike in the truncated digests, in an extent with gaps.
func TestTransfer_GapsResend(t *testing.T) {
	a, b := twins(t)
	const size = 2 * block.ExtentSize
	source := image(size, 1)
	before := changed(source, 4096, 16, 9)
	copy(source[1<<20:], a)
	copy(before[1<<20:], b)
	bad := []int64{1<<20 + 81920, 1<<20 + 200_000}
	for _, keep := range []bool{false, true} {
		src, dev := memdev.FromBytes(source), memdev.FromBytes(before)
		breakAt(src, bad...)
		resent := 0
		tr := transfer{src: NewSalvage(solid{src}, size, keep, isBad), tgt: dev, r: rangeOf(size, 4096), window: 2, buffer: 1 << 20}
		tr.prepare = func(_, r *link) {
			r.sent = func(m wire.Message) {
				if m.Type() == wire.TypeResend {
					resent++
				}
			}
		}
		s, r := tr.run(t)
		if s.err != nil || r.err != nil || resent != 1 || !bytes.Equal(dev.Bytes(), salvaged(source, before, bad, keep)) {
			t.Errorf("keep %v: sender %v, receiver %v, %d resent", keep, s.err, r.err, resent)
		}
	}
}

// A disk that vanishes in the middle ends the transfer, and the target has no zeros of it.
func TestTransfer_GapsGone(t *testing.T) {
	const size = 16 * block.ExtentSize
	source, before := image(size, 1), image(size, 2)
	src, dev := memdev.FromBytes(source), memdev.FromBytes(before)
	src.Inject(memdev.Fault{Op: memdev.Read, Off: memdev.Anywhere, After: 5, Err: errBad})
	tr := transfer{src: NewSalvage(src, size, false, isBad), tgt: dev, r: rangeOf(size, 4096), window: 4, buffer: 1 << 20}
	if s, r := tr.run(t); !errors.Is(s.err, errBad) || r.err == nil {
		t.Errorf("sender %v, receiver %v", s.err, r.err)
	}
	now := dev.Bytes()
	for i, part := range slices.Collect(slices.Chunk(now, 4096)) {
		if at := i * 4096; !bytes.Equal(part, source[at:at+4096]) && !bytes.Equal(part, before[at:at+4096]) {
			t.Fatalf("block %d is of neither", i)
		}
	}
}

// With a reference, what cannot be read is kept of that.
func TestRebuilder_Gaps(t *testing.T) {
	const size = 5*block.ExtentSize + 77
	source := image(size, 1)
	ref := changed(source, 4096, 50, 9)
	bad := []int64{4096 * 50, 2<<20 + 9, size - 1}
	for _, keep := range []bool{false, true} {
		src := memdev.FromBytes(source)
		breakAt(src, bad...)
		got, _, _, err := rebuildFrom(t, NewSalvage(solid{src}, size, keep, isBad), memdev.FromBytes(ref), size, rangeOf(size, 4096))
		if err != nil || !bytes.Equal(got, salvaged(source, ref, bad, keep)) {
			t.Errorf("keep %v: content differs, %v", keep, err)
		}
	}
}
