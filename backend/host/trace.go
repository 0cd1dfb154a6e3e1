package host

import (
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Fate is what became of a run of bytes in a transfer, or would become of it.
type Fate uint8

// The fates.
const (
	FateEqual   Fate = iota + 1 // left alone
	FateEmpty                   // left alone, and zero on both ends
	FateZeroed                  // made zero
	FateChanged                 // moved and written
)

// Trace has mark called, by Join and Compare with s as the source, for every run of
// bytes of the range as it is found out. What is sent twice is marked twice. It ends
// with Release.
func (s *Session) Trace(mark func(off, n int64, f Fate)) { s.mark = mark }

// tracer finds out the fates from the frames that pass. Below the floor and not
// spoken of means equal, and of the digests those of zeros are known. Nothing is
// checked here: a helper that does not keep the order spoils its picture alone.
// A nil tracer does nothing.
type tracer struct {
	r    block.Range
	mark func(off, n int64, f Fate)

	mu    sync.Mutex
	slots [wire.MaxWindow]slot // of extent i%MaxWindow, from floor on; hold mu
	floor int64                // extents settled; hold mu
	empty int64                // bytes; hold mu
}

type slot struct{ zero, patched bool }

func newTracer(s *Session, r block.Range) *tracer {
	if s.mark == nil {
		return nil
	}
	return &tracer{r: r, mark: s.mark}
}

// digests takes what the receiver has, from floor on.
func (t *tracer) digests(f *wire.Frame) error {
	if t == nil {
		return nil
	}
	var d wire.Digests
	if err := f.Decode(&d); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range d.Len() {
		at := d.First + int64(i)
		if at < t.floor || at >= min(t.floor+wire.MaxWindow, t.r.Extents()) {
			continue
		}
		_, length := t.r.Extent(at)
		t.slots[at%wire.MaxWindow].zero = d.At(i) == block.ZeroExtent(length, t.r.BlockSize)
	}
	return nil
}

// patch takes the runs of an extent that differs, which is one of the range.
func (t *tracer) patch(p *wire.Patch) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	off, length := t.r.Extent(p.Extent)
	s := &t.slots[p.Extent%wire.MaxWindow]
	s.patched = true
	at := 0
	for _, run := range p.Runs {
		first := min(int(run.First)*t.r.BlockSize, length)
		end := min(first+int(run.Count)*t.r.BlockSize, length)
		t.rest(off, at, first, s.zero)
		f := FateChanged
		if run.Zero {
			f = FateZeroed
		}
		t.put(off+int64(first), int64(end-first), f)
		at = end
	}
	t.rest(off, at, length, s.zero)
}

// rest marks what of the extent at off the runs leave out. Hold mu.
func (t *tracer) rest(off int64, from, to int, zero bool) {
	f := FateEqual
	if zero {
		f = FateEmpty
	}
	t.put(off+int64(from), int64(to-from), f)
}

// settle takes the number of extents settled: what was not spoken of is equal.
func (t *tracer) settle(n int64) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; t.floor < n; t.floor++ {
		s := &t.slots[t.floor%wire.MaxWindow]
		if !s.patched {
			off, length := t.r.Extent(t.floor)
			t.rest(off, 0, length, s.zero)
		}
		*s = slot{}
	}
}

// put marks a run. Hold mu.
func (t *tracer) put(off, n int64, f Fate) {
	if n <= 0 {
		return
	}
	if f == FateEmpty {
		t.empty += n
	}
	t.mark(off, n, f)
}

// emptied is the number of bytes that are zero on both ends.
func (t *tracer) emptied() int64 {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.empty
}
