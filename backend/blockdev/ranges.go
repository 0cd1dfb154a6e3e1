package blockdev

import (
	"cmp"
	"slices"
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
)

// maxRanges is how many ranges are told at most. Where there are more they are told
// in larger units, so that they still cover all that differs.
const maxRanges = 10000

// ranges collects what differs.
type ranges struct {
	mu    sync.Mutex
	end   int64   // of what is compared
	unit  int64   // bytes
	spans []Range // the first ones ascending and apart, as merge left them; hold mu
}

func newRanges(end int64, blockSize int) *ranges { return &ranges{end: end, unit: int64(blockSize)} }

// mark is Mark of a Plan.
func (r *ranges) mark(off, n int64, f host.Fate) {
	if f != host.FateChanged && f != host.FateZeroed {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := len(r.spans) - 1; last >= 0 && r.spans[last].Offset+r.spans[last].Length == off {
		r.spans[last].Length += n
		return
	}
	r.spans = append(r.spans, Range{off, n})
	if len(r.spans) > 4*maxRanges {
		r.merge()
	}
}

// merge joins what touches, in as large units as it takes. Hold mu.
func (r *ranges) merge() {
	for {
		r.join()
		if len(r.spans) <= maxRanges {
			return
		}
		r.unit *= 2
	}
}

func (r *ranges) join() {
	for i, s := range r.spans {
		first := s.Offset / r.unit * r.unit
		end := min((s.Offset+s.Length+r.unit-1)/r.unit*r.unit, r.end)
		r.spans[i] = Range{first, end - first}
	}
	slices.SortFunc(r.spans, func(a, b Range) int { return cmp.Compare(a.Offset, b.Offset) })
	out := r.spans[:0]
	for _, s := range r.spans {
		last := len(out) - 1
		if last >= 0 && s.Offset <= out[last].Offset+out[last].Length {
			out[last].Length = max(out[last].Length, s.Offset+s.Length-out[last].Offset)
			continue
		}
		out = append(out, s)
	}
	r.spans = out
}

// all are the ranges, ascending, and the unit in which they are told.
func (r *ranges) all() ([]Range, int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.merge()
	return append([]Range{}, r.spans...), r.unit
}
