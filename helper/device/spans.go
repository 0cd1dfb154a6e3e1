package device

import (
	"errors"
	"slices"
	"sort"
)

// maxSpans bounds the memory that a map of a volume takes, in ranges.
const maxSpans = 1 << 17

// spans is an ordered set of ranges. Where it would have too many, it takes in the smallest gaps between them: of a
// volume's data it may know too much, never too little.
type spans struct {
	list []span
	gap  int64 // a gap of no more bytes is taken in
}

// add takes in a range behind all others.
func (s *spans) add(from, to int64) error {
	last := len(s.list) - 1
	switch {
	case from < 0 || to < from:
		return errors.New("a range that ends before it begins")
	case last >= 0 && from < s.list[last].to:
		return errors.New("ranges out of order")
	case from == to:
	case last >= 0 && from-s.list[last].to <= s.gap:
		s.list[last].to = to
	default:
		s.list = append(s.list, span{from, to})
	}
	for len(s.list) > maxSpans {
		s.coarsen()
	}
	return nil
}

// coarsen doubles the gap that is taken in.
func (s *spans) coarsen() {
	s.gap = max(2*s.gap, 64<<10)
	all := s.list
	s.list = all[:0]
	for _, r := range all {
		if last := len(s.list) - 1; last >= 0 && r.from-s.list[last].to <= s.gap {
			s.list[last].to = r.to
		} else {
			s.list = append(s.list, r)
		}
	}
}

// next is the first part of [off, end) that is in the set; start, stop and end are equal when there is none.
func (s *spans) next(off, end int64) (start, stop int64) {
	i := sort.Search(len(s.list), func(i int) bool { return s.list[i].to > off })
	if i == len(s.list) || s.list[i].from >= end {
		return end, end
	}
	return max(off, s.list[i].from), min(end, s.list[i].to)
}

// fill takes in a range anywhere.
func (s *spans) fill(from, to int64) {
	if from >= to {
		return
	}
	lo := sort.Search(len(s.list), func(i int) bool { return s.list[i].to >= from })
	hi := sort.Search(len(s.list), func(i int) bool { return s.list[i].from > to })
	if lo < hi {
		from, to = min(from, s.list[lo].from), max(to, s.list[hi-1].to)
	}
	s.list = slices.Replace(s.list, lo, hi, span{from, to})
}
