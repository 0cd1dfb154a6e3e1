package delta

import (
	"cmp"
	"context"
	"slices"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Stored is a Target that can be read as it is stored, not as it is remembered.
type Stored interface {
	Target
	// ReadBack reads all of p at off from the medium. What was written before is
	// durable by then.
	ReadBack(p []byte, off int64) error
}

// verify is what a receiver reads back.
type verify uint8

const (
	verifyNothing verify = iota
	verifyWritten        // the extents that a patch was applied to
	verifyAll
)

// written is an extent to be read back, which takes some 72 bytes until the end.
type written struct {
	index  int64
	digest block.Digest
	gaps   []wire.Gap
}

// ReceiveVerified is Receive that reads again what it has written, or all of the
// range, when that is durable. An extent that does not hold what it should is asked for
// and written once more; one that does not keep it then either is an error. repaired is
// called with the bytes of each extent that the device kept only then.
func ReceiveVerified(ctx context.Context, link Link, tgt Target, r block.Range, window int64, all bool, repaired func(off, n int64) error) (*wire.Summary, error) {
	what := verifyWritten
	if all {
		what = verifyAll
	}
	return receive(ctx, link, tgt, tgt, r, window, what, repaired)
}

// note has e read back when that is what is wanted.
func (rc *receiver) note(e *extent, what verify) {
	if rc.verify == what {
		rc.written = append(rc.written, written{e.index, e.digest, slices.Clone(e.gaps)})
	}
}

// readBack reads what was noted, after the sync.
func (rc *receiver) readBack(ctx context.Context) error {
	if len(rc.written) == 0 {
		return nil
	}
	buf := block.GetBuffer()
	defer block.PutBuffer(buf)
	digests := getSums(rc.r.BlockSize)
	defer putSums(digests)
	slices.SortFunc(rc.written, func(a, b written) int { return cmp.Compare(a.index, b.index) })
	for _, w := range rc.written {
		e := &extent{index: w.index, gaps: w.gaps}
		e.offset, e.length = rc.r.Extent(w.index)
		e.sums = digests
		for try := 0; ; try++ {
			if err := rc.readStored(e, *buf); err != nil {
				return err
			}
			if e.digest == w.digest && try > 0 {
				if err := rc.repaired(e.offset, int64(e.length)); err != nil {
					return err
				}
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
	st, ok := rc.tgt.(Stored)
	if !ok {
		return rc.scan.read(e, buf)
	}
	data := buf[:e.length]
	if err := st.ReadBack(data, e.offset); err != nil {
		return err
	}
	clearGaps(data, e.offset, e.gaps)
	rc.scan.digest(e, data)
	return nil
}

// repair writes what is wrong in e once more, from the source.
func (rc *receiver) repair(ctx context.Context, e *extent, want block.Digest) error {
	m := wire.Resend{}
	m.Extent = e.index
	if err := rc.link.Write(&m); err != nil {
		return err
	}
	f, err := rc.link.Next(ctx, nil)
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
	e.sums = getSums(s.r.BlockSize)
	defer putSums(e.sums)
	buf := block.GetBuffer()
	defer block.PutBuffer(buf)
	if err := s.scan.read(e, *buf); err != nil {
		return err
	}
	e.told = wire.GapBytes(e.gaps) // other ones than before have another digest
	if !e.zero {
		e.data = (*buf)[:e.length]
	}
	return s.sendPatch(e, whole)
}
