package delta

import (
	"fmt"
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// How a place that cannot be read is narrowed down, in bytes. A dying disk takes
// seconds for each attempt, and may die of them: within one reading the first pieces
// that fail are small, what follows them is given up in larger ones, and none is
// tried again.
const (
	salvageUnit   = 4 << 10 // a page, and the sector of most disks
	salvageCoarse = 64 << 10
	salvageFine   = 16 // pieces of salvageUnit that may fail in one reading

	maxGaps = 1 << 16 // in all of a source
	probes  = 8       // places that are tried to tell a bad area from a device that is gone
)

// Salvage is a Source that goes on where another one cannot be read: with zeros,
// and with a list of these gaps. Reads may be made concurrently, of different ranges.
type Salvage struct {
	Source
	size int64            // bytes that can be asked for
	bad  func(error) bool // tells a place that cannot be read from other failures
	keep bool             // who gets the gaps keeps what he has there

	mu    sync.Mutex
	good  int64 // a unit that could be read, -1 for none yet; hold mu
	count int   // gaps found; hold mu
}

// NewSalvage reads size bytes of src. With keep the gaps are to stay as they are at
// the target, otherwise they become zero there.
func NewSalvage(src Source, size int64, keep bool, bad func(error) bool) *Salvage {
	return &Salvage{Source: src, size: size, keep: keep, bad: bad, good: -1}
}

// Data is that of the source; what cannot be asked for holes is all data.
func (v *Salvage) Data(off, end int64) (start, stop int64, err error) {
	start, stop, err = v.Source.Data(off, end)
	if err != nil && v.bad(err) {
		return off, end, nil
	}
	return start, stop, err
}

// Fill fills p with what is at off. Where that cannot be read, p becomes zero, and
// a gap is added to those that are known, which are not tried again. The gaps come
// back ascending, and none touches another. An error is for all else that fails, and
// for a device that is gone: its bytes must not be taken for zeros.
func (v *Salvage) Fill(p []byte, off int64, known []wire.Gap) ([]wire.Gap, error) {
	r := salvaging{v: v, p: p, off: off, gaps: known}
	if err := r.run(); err != nil {
		return known, err
	}
	return r.gaps, nil
}

// salvaging is one running Fill.
type salvaging struct {
	v    *Salvage
	p    []byte
	off  int64
	gaps []wire.Gap

	at    int   // bytes of p that are done
	step  int   // bytes to read at once
	fails int   // pieces given up
	last  error // of the piece before at, when that was given up
}

func (r *salvaging) run() error {
	r.step = len(r.p)
	for r.at < len(r.p) {
		if g, ok := gapAt(r.gaps, r.pos()); ok {
			end := min(int(g.End()-r.off), len(r.p))
			clear(r.p[r.at:end])
			r.at = end
			continue
		}
		if err := r.piece(); err != nil {
			return err
		}
	}
	if r.last == nil {
		return nil
	}
	return r.v.alive(r.last)
}

// pos is the byte of the source that is read next.
func (r *salvaging) pos() int64 { return r.off + int64(r.at) }

// piece reads the next bytes, or gives up as few of them as is tried.
func (r *salvaging) piece() error {
	n := min(r.step, len(r.p)-r.at)
	if next, ok := nextGap(r.gaps, r.pos()); ok {
		n = int(min(int64(n), next-r.pos()))
	}
	got, err := r.v.Source.ReadAt(r.p[r.at:r.at+n], r.pos())
	if got == n {
		r.v.found(r.pos())
		r.at, r.last = r.at+n, nil
		r.step = min(4*r.step, len(r.p))
		return nil
	}
	if err == nil || !r.v.bad(err) {
		return incomplete(r.pos()+int64(got), err)
	}
	if got = int((r.pos()+int64(got))/salvageUnit*salvageUnit - r.pos()); got > 0 {
		r.v.found(r.pos())
		r.at, n = r.at+got, n-got
	}
	size := salvageUnit
	if r.fails >= salvageFine {
		size = salvageCoarse
	}
	r.step = size - int(r.pos()%int64(size))
	if n > r.step { // whether it is the first piece of them that fails, only that one tells
		return nil
	}
	r.fails++
	r.last = err
	clear(r.p[r.at : r.at+n])
	r.gaps = addGap(r.gaps, wire.Gap{Offset: r.pos(), Length: int64(n)})
	r.at += n
	r.step = size - int(r.pos()%int64(size))
	return r.v.counted(err)
}

// counted notes one more piece.
func (v *Salvage) counted(err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.count++; v.count > maxGaps {
		return fmt.Errorf("more than %d places cannot be read, so this is given up: %w", maxGaps, err)
	}
	return nil
}

// found notes a place that could be read. The first one is kept: what was read
// lately is still in memory, and would be read there when the disk is gone.
func (v *Salvage) found(off int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.good < 0 {
		v.good = off
	}
}

// alive returns nil when anything can still be read, and otherwise what reading has
// failed with.
func (v *Salvage) alive(failed error) error {
	v.mu.Lock()
	places := []int64{v.good}
	v.mu.Unlock()
	for i := range int64(probes) {
		places = append(places, v.size/probes*i)
	}
	unit := make([]byte, min(salvageUnit, v.size))
	for _, off := range places {
		if off < 0 {
			continue
		}
		off = min(off/salvageUnit*salvageUnit, v.size-int64(len(unit)))
		switch n, err := v.Source.ReadAt(unit, off); {
		case n == len(unit):
			v.found(off)
			return nil
		case !v.bad(err):
			return incomplete(off, err)
		}
	}
	return fmt.Errorf("nothing can be read any more, also where that worked before, so it is not gone on: %w", failed)
}

// gapAt is the gap that has the byte at off.
func gapAt(gaps []wire.Gap, off int64) (wire.Gap, bool) {
	for _, g := range gaps {
		if g.Offset <= off && off < g.End() {
			return g, true
		}
	}
	return wire.Gap{}, false
}

// nextGap is where the first gap behind off begins.
func nextGap(gaps []wire.Gap, off int64) (int64, bool) {
	for _, g := range gaps {
		if g.Offset > off {
			return g.Offset, true
		}
	}
	return 0, false
}

// addGap adds a gap, which may touch others but has no byte of them.
func addGap(gaps []wire.Gap, g wire.Gap) []wire.Gap {
	i := 0
	for i < len(gaps) && gaps[i].Offset < g.Offset {
		i++
	}
	before, after := i > 0 && gaps[i-1].End() == g.Offset, i < len(gaps) && gaps[i].Offset == g.End()
	switch {
	case before && after:
		gaps[i-1].Length += g.Length + gaps[i].Length
		return append(gaps[:i], gaps[i+1:]...)
	case before:
		gaps[i-1].Length += g.Length
	case after:
		gaps[i].Offset, gaps[i].Length = g.Offset, g.Length+gaps[i].Length
	default:
		gaps = append(gaps, wire.Gap{})
		copy(gaps[i+1:], gaps[i:])
		gaps[i] = g
	}
	return gaps
}

// clearGaps makes the gaps in p zero, which is what is at off.
func clearGaps(p []byte, off int64, gaps []wire.Gap) {
	for _, g := range gaps {
		from, to := max(g.Offset, off), min(g.End(), off+int64(len(p)))
		if from < to {
			clear(p[from-off : to-off])
		}
	}
}
