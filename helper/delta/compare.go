package delta

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// CompareSend is Send in a comparison: the receiver is told what differs, and
// gets none of it.
func CompareSend(ctx context.Context, link Link, src Source, r block.Range, window int64) (*wire.Summary, error) {
	return send(ctx, link, src, r, window, wire.CompressOff, true)
}

// CompareReceive is Receive in a comparison: it counts what a transfer would
// write to old, and writes nothing.
func CompareReceive(ctx context.Context, link Link, old Source, r block.Range, window int64) (*wire.Summary, error) {
	return receive(ctx, link, old, nil, r, window, false)
}

// compare counts what the patch would write. Its digest cannot be verified
// without the data, and is taken for that of the extent.
func (a *applier) compare(e *extent, sum *wire.Summary) {
	old := e.blockDigests(a.r.BlockSize)
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

// progressEvery is the time between two reports of Root.
const progressEvery = time.Second

// Root reads range r of src and returns its root. progress is called from time to
// time with the number of bytes done; its error ends the reading.
func Root(ctx context.Context, src Source, r block.Range, progress func(done int64) error) (block.Digest, error) {
	scan := newScanner(src, r, Hold, false)
	root := block.NewRootHash(r)
	g, working := errgroup.WithContext(ctx)
	for range scan.workers() {
		g.Go(func() error { return scan.run(working) })
	}
	g.Go(func() error {
		alive := time.NewTicker(progressEvery) // also while a slow disk is waited for
		defer alive.Stop()
		done := int64(0)
		picked := make(chan struct{})
		close(picked)
		for i := int64(0); i < r.Extents(); {
			more := scan.ready
			if e := scan.pick(i); e != nil {
				root.Add(e.digest)
				done = e.offset + int64(e.length) - r.Offset
				scan.recycle(e)
				i++
				more = picked
			}
			select {
			case <-more:
			case <-alive.C:
				if err := progress(done); err != nil {
					return err
				}
			case <-working.Done():
				return context.Cause(working)
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return block.Digest{}, ended(ctx, err)
	}
	return root.Sum(), nil
}
