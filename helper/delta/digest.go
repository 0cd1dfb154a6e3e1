package delta

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// progressEvery is the time between two reports of Root.
const progressEvery = time.Second

// Root reads range r of src and returns its root. progress is called from time to
// time with the number of bytes done; its error ends the reading.
func Root(ctx context.Context, src Source, r block.Range, progress func(done int64) error) (block.Digest, error) {
	root := block.NewRootHash(r)
	err := lockstep(ctx, r, []Source{src}, func(same []*extent) error {
		root.Add(same[0].digest)
		return nil
	}, progress)
	if err != nil {
		return block.Digest{}, err
	}
	return root.Sum(), nil
}

// Digests reads range r of src and calls each with the digest of every extent, in
// order. Its error ends the reading.
func Digests(ctx context.Context, src Source, r block.Range, each func(i int64, d block.Digest) error) error {
	return lockstep(ctx, r, []Source{src}, func(same []*extent) error {
		return each(same[0].index, same[0].digest)
	}, nil)
}

// Differences reads range r of a and of b at once and calls each for every extent,
// in order, with its length in bytes and the runs of blocks in which both differ:
// none when it is equal. The runs are offsets in bytes of the device, and valid until
// each returns, whose error ends the reading. It returns the roots of both.
func Differences(ctx context.Context, a, b Source, r block.Range, each func(length int, runs []Span) error) (roots [2]block.Digest, err error) {
	hashes := [2]*block.RootHash{block.NewRootHash(r), block.NewRootHash(r)}
	var runs []Span
	zeros := [2]*sums{getSums(r.BlockSize), getSums(r.BlockSize)}
	defer putSums(zeros[0])
	defer putSums(zeros[1])
	err = lockstep(ctx, r, []Source{a, b}, func(same []*extent) error {
		for i, e := range same {
			hashes[i].Add(e.digest)
		}
		runs = runs[:0]
		if same[0].digest != same[1].digest {
			left, right := same[0].blockDigests(zeros[0].blocks, r.BlockSize), same[1].blockDigests(zeros[1].blocks, r.BlockSize)
			runs = appendRuns(runs, same[0], left, right, r.BlockSize)
		}
		return each(same[0].length, runs)
	}, nil)
	return [2]block.Digest{hashes[0].Sum(), hashes[1].Sum()}, err
}

// Span is a range of bytes of a device.
type Span struct{ Offset, Length int64 }

// appendRuns appends the runs of blocks of e whose digests differ.
func appendRuns(runs []Span, e *extent, left, right []block.Digest, blockSize int) []Span {
	for i := 0; i < len(left); i++ {
		first := i
		for i < len(left) && left[i] != right[i] {
			i++
		}
		if i > first {
			from, to := first*blockSize, min(i*blockSize, e.length)
			runs = append(runs, Span{e.offset + int64(from), int64(to - from)})
		}
	}
	return runs
}

// lockstep scans range r of all sources at once and calls take with the extents of
// one number, in order. progress, unless it is nil, is called from time to time, also
// while a slow disk is waited for.
func lockstep(ctx context.Context, r block.Range, sources []Source, take func(same []*extent) error, progress func(done int64) error) error {
	ready := make(chan struct{}, 1) // one signal for all: who sees it looks at each
	scans := make([]*scanner, len(sources))
	g, working := errgroup.WithContext(ctx)
	for i, src := range sources {
		scan := newScanner(src, r, Hold, false)
		scan.ready = ready
		scans[i] = scan
		for range scan.workers() {
			g.Go(func() error { return scan.run(working) })
		}
	}
	g.Go(func() error { return collect(working, r, scans, take, progress) })
	err := g.Wait()
	for _, scan := range scans {
		scan.retire()
	}
	if err != nil {
		return ended(ctx, err)
	}
	return nil
}

// collect is the end of lockstep at which the extents come out.
func collect(ctx context.Context, r block.Range, scans []*scanner, take func(same []*extent) error, progress func(done int64) error) error {
	var alive <-chan time.Time
	if progress != nil {
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		alive = ticker.C
	}
	done := int64(0)
	picked := make(chan struct{})
	close(picked)
	same := make([]*extent, len(scans))
	for i := int64(0); i < r.Extents(); {
		more := scans[0].ready
		if pickAll(scans, same, i) {
			if err := take(same); err != nil {
				return err
			}
			done = same[0].offset + int64(same[0].length) - r.Offset
			for k, scan := range scans {
				scan.recycle(same[k])
				same[k] = nil
			}
			i++
			more = picked
		}
		select {
		case <-more:
		case <-alive:
			if err := progress(done); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// pickAll fills same with extent i of each scanner, as far as they are scanned.
func pickAll(scans []*scanner, same []*extent, i int64) (all bool) {
	all = true
	for k, scan := range scans {
		if same[k] == nil {
			same[k] = scan.pick(i)
		}
		all = all && same[k] != nil
	}
	return all
}
