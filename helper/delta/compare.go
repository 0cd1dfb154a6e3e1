package delta

import (
	"context"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// CompareSend is Send in a comparison: the receiver is told what differs, and
// gets none of it.
func CompareSend(ctx context.Context, link Link, src Source, r block.Range, window int64) (*wire.Summary, error) {
	return send(ctx, link, src, r, window, nil, true)
}

// CompareReceive is Receive in a comparison: it counts what a transfer would
// write to old, and writes nothing.
func CompareReceive(ctx context.Context, link Link, old Source, r block.Range, window int64) (*wire.Summary, error) {
	return receive(ctx, link, old, nil, r, window, verifyNothing, nil)
}

// compare counts what the patch would write. Its digest cannot be verified
// without the data, and is taken for that of the extent.
func (a *applier) compare(e *extent, sum *wire.Summary) {
	old := e.blockDigests(a.old, a.r.BlockSize)
	changed := int64(0)
	for _, r := range a.patch.Runs {
		_, n := runSpan(e, r, a.r.BlockSize)
		if !r.Zero {
			sum.Data += int64(n)
			changed += int64(n)
			continue
		}
		for i, zero := range block.ZeroDigests(a.next, n, a.r.BlockSize) {
			if old[int(r.First)+i] == zero {
				continue
			}
			size := int64(min(a.r.BlockSize, n-i*a.r.BlockSize))
			sum.Zeroed += size
			changed += size
		}
	}
	sum.Equal += int64(e.length) - changed
	e.digest = a.patch.Digest
}
