package delta

import (
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Gaps are places of the source that could not be read. Either they are zeros, which
// the receiver learns like any other bytes. Or the target keeps what it has there:
// then both ends take them for zeros in the digests of their extent, and so in the
// roots, which prove all the rest.

// keeps tells whether the target keeps what it has in the gaps.
func (s *sender) keeps() bool { return s.scan.gaps != nil && s.scan.gaps.keep }

// kept tells whether e has gaps that the target keeps.
func (s *sender) kept(e *extent) bool { return len(e.gaps) > 0 && s.keeps() }

// untold tells whether e has gaps that the receiver does not know of.
func (e *extent) untold() bool { return wire.GapBytes(e.gaps) > e.told }

// tellGaps names the gaps of e. When the target keeps them, the receiver answers
// with the block digests of what it has between them.
func (s *sender) tellGaps(e *extent) error {
	keep := s.keeps()
	if keep {
		s.mu.Lock()
		if e.state != stateWanted { // else the answer to it may be there already
			e.state, e.short = stateWanted, e.short[:0]
		}
		s.mu.Unlock()
	}
	e.told = wire.GapBytes(e.gaps)
	s.gaps.Keep, s.gaps.List = keep, e.gaps
	return s.link.Write(&s.gaps)
}

// takeGaps has the target keep what it has in the gaps of one extent. They may
// become more as long as nothing of the extent was written.
func (rc *receiver) takeGaps(m *wire.Gaps) error {
	if !m.Keep {
		return nil // who shows them to the user has seen them
	}
	first, last := m.List[0], m.List[len(m.List)-1]
	e := rc.extent(max(first.Offset-rc.r.Offset, 0) / block.ExtentSize)
	if e == nil || e.state == stateSettled || first.Offset < e.offset || last.End() > e.offset+int64(e.length) ||
		wire.GapBytes(m.List) <= wire.GapBytes(e.gaps) {
		return wire.Errorf(wire.CodeProtocol, "protocol error: gaps at byte %d cannot come now", first.Offset)
	}
	if rc.named += max(len(m.List)-len(e.gaps), 0); rc.named > maxGaps {
		return wire.Errorf(wire.CodeProtocol, "protocol error: more than %d gaps in one range", maxGaps)
	}
	e.gaps = append(e.gaps[:0], m.List...)
	if k, ok := rc.tgt.(GapKeeper); ok {
		k.KeptGaps(e.gaps)
	}
	if e.hole { // zeros, as the gaps
		return rc.sendBlocks(e)
	}
	buf := block.GetBuffer()
	defer block.PutBuffer(buf)
	if err := rc.scan.read(e, *buf); err != nil {
		return err
	}
	return rc.sendBlocks(e)
}

// eachBetween calls fn for the parts of [off, end) that are in no gap.
func eachBetween(gaps []wire.Gap, off, end int64, fn func(off, n int64) error) error {
	for _, g := range gaps {
		if g.End() <= off {
			continue
		}
		if g.Offset >= end {
			break
		}
		if g.Offset > off {
			if err := fn(off, g.Offset-off); err != nil {
				return err
			}
		}
		off = g.End()
	}
	if off < end {
		return fn(off, end-off)
	}
	return nil
}
