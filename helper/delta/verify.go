package delta

import (
	"context"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// Prover is a Target that is read again, past whatever was kept of it in memory,
// before its receiver says that a range is durable.
type Prover interface {
	Target
	// ProveAll tells whether all of a range is read again, or only the extents in
	// which something was written.
	ProveAll() bool
	// ReadBack reads all of p at off from the medium. What was written before is
	// durable by then.
	ReadBack(p []byte, off int64) error
}

// proofBatch is how many extents wait to be read again: the range may be a whole
// disk, and memory is bounded.
const proofBatch = 1024

// proof is what is to be read again. It is owned by the receiver's run; nil when
// nothing is.
type proof struct {
	tgt  Prover
	r    block.Range
	wait []written
	sums []block.Digest // memory of check
}

// written is an extent of which it is known what the medium must hold.
type written struct {
	offset int64
	length int
	digest block.Digest
}

func newProof(tgt Target, r block.Range) *proof {
	p, ok := tgt.(Prover)
	if !ok {
		return nil
	}
	return &proof{tgt: p, r: r, sums: make([]block.Digest, block.Count(block.ExtentSize, r.BlockSize))}
}

// patched takes an extent that was written.
func (p *proof) patched(e *extent) {
	if p != nil && !p.tgt.ProveAll() {
		p.wait = append(p.wait, written{e.offset, e.length, e.digest})
	}
}

// settled takes an extent that has the content of the source, written or not.
func (p *proof) settled(e *extent) {
	if p != nil && p.tgt.ProveAll() {
		p.wait = append(p.wait, written{e.offset, e.length, e.digest})
	}
}

// due reads again what waits, when that is much or the last.
func (p *proof) due(ctx context.Context, last bool) error {
	if p == nil || len(p.wait) == 0 || !last && len(p.wait) < proofBatch {
		return nil
	}
	defer func() { p.wait = p.wait[:0] }()
	if err := p.tgt.Sync(); err != nil {
		return err
	}
	buf := getBuffer()
	defer putBuffer(buf)
	for i := 0; i < len(p.wait); i++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		ok, err := p.check(p.wait[i], *buf)
		if err != nil {
			return err
		}
		if !ok {
			return p.differs(i, *buf)
		}
	}
	return nil
}

// check reads one extent.
func (p *proof) check(w written, buf []byte) (ok bool, err error) {
	data := buf[:w.length]
	if err := p.tgt.ReadBack(data, w.offset); err != nil {
		return false, err
	}
	if block.IsZero(data) {
		return w.digest == block.ZeroExtent(w.length, p.r.BlockSize), nil
	}
	sums := p.sums[:block.Count(w.length, p.r.BlockSize)]
	block.Digests(sums, data, p.r.BlockSize)
	return block.ExtentDigest(sums) == w.digest, nil
}

// differs is the error for extent i, and those behind it that differ as well.
func (p *proof) differs(i int, buf []byte) error {
	from := p.wait[i].offset
	end := from + int64(p.wait[i].length)
	for _, w := range p.wait[i+1:] {
		if w.offset != end {
			break
		}
		if ok, err := p.check(w, buf); ok || err != nil {
			break
		}
		end += int64(w.length)
	}
	return corrupted(from, end-from, "read again from the medium, they are not what was written: the disk or what is below it is failing")
}
