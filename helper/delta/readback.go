package delta

import (
	"cmp"
	"context"
	"slices"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Forgetter is a Target that can be read as it is stored, not as it is remembered.
type Forgetter interface {
	// Forget drops n bytes at off from memory; they are durable.
	Forget(off, n int64)
}

// written is an extent that a patch was applied to.
type written struct {
	index  int64
	digest block.Digest
	gaps   []wire.Gap
}

// ReceiveReadBack is Receive that reads again what it has written, when that is
// durable. An extent that does not hold what it was given is asked for and written
// once more; one that does not keep it then either is an error.
func ReceiveReadBack(ctx context.Context, link Link, tgt Target, r block.Range, window int64) (*wire.Summary, error) {
	return receive(ctx, link, tgt, tgt, r, window, true)
}

// readBack reads what was written, after the sync.
func (rc *receiver) readBack(ctx context.Context) error {
	buf := getBuffer()
	defer putBuffer(buf)
	slices.SortFunc(rc.written, func(a, b written) int { return cmp.Compare(a.index, b.index) })
	for _, w := range rc.written {
		e := &extent{index: w.index, gaps: w.gaps}
		e.offset, e.length = rc.r.Extent(w.index)
		e.fit(block.Count(e.length, rc.r.BlockSize))
		for try := 0; ; try++ {
			if err := rc.readStored(e, *buf); err != nil {
				return err
			}
			if e.digest == w.digest {
				break
			}
			if try > 0 {
				return corrupted(e.offset, int64(e.length), "the device does not keep what is written there")
			}
			if err := rc.repair(ctx, e, w.digest); err != nil {
				return err
			}
		}
	}
	return nil
}

// readStored reads e as it is stored.
func (rc *receiver) readStored(e *extent, buf []byte) error {
	if f, ok := rc.tgt.(Forgetter); ok {
		f.Forget(e.offset, int64(e.length))
	}
	return rc.scan.read(e, buf)
}

// repair writes what is wrong in e once more, from the source.
func (rc *receiver) repair(ctx context.Context, e *extent, want block.Digest) error {
	m := wire.Resend{}
	m.Extent = e.index
	if err := rc.link.Write(&m); err != nil {
		return err
	}
	f, err := rc.link.Next(ctx)
	if err != nil {
		return err
	}
	defer f.Release()
	p := &rc.apply.patch
	if err := f.Decode(p); err != nil {
		return err
	}
	if p.Extent != e.index {
		return wire.Errorf(wire.CodeProtocol, "protocol error: patch of extent %d instead of %d", p.Extent, e.index)
	}
	var again wire.Summary // counted before
	switch ok, err := rc.apply.apply(e, &again); {
	case err != nil:
		return err
	case !ok, p.Digest != want:
		return corrupted(e.offset, int64(e.length), "the device did not keep what was written, and the source has changed since")
	}
	return rc.tgt.Sync()
}

// takeRepair notes an extent that the receiver wants again, after the end. They come
// in order, so that it ends.
func (s *sender) takeRepair(i int64) error {
	if s.dry || i <= s.repaired || i >= s.r.Extents() || s.repair {
		return wire.Errorf(wire.CodeProtocol, "protocol error: resending of extent %d makes no sense", i)
	}
	s.repair, s.repaired = true, i
	return nil
}

// sendAgain sends extent i, of which all was forgotten.
func (s *sender) sendAgain(i int64) error {
	e := &extent{index: i}
	e.offset, e.length = s.r.Extent(i)
	if s.once {
		return corrupted(e.offset, int64(e.length), "the device did not keep what was written, and the source cannot be read again")
	}
	e.fit(block.Count(e.length, s.r.BlockSize))
	buf := getBuffer()
	defer putBuffer(buf)
	if err := s.scan.read(e, *buf); err != nil {
		return err
	}
	e.told = wire.GapBytes(e.gaps) // other ones than before have another digest
	if !e.zero {
		e.data = (*buf)[:e.length]
	}
	return s.sendPatch(e, whole)
}
