package delta

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// announceBatch is how many extent digests go in one frame when the sender is
// not waiting for them: enough that framing and encryption cost little.
const announceBatch = 8

// answerBatch is how many answers go together while frames of the sender keep coming.
const answerBatch = 8

// receiver is one running Receive.
//
// Three kinds of goroutines: the scanner's workers; announce, which sends
// digests in order; and run, which takes all frames of the sender and does all
// the writing to the target.
type receiver struct {
	link   Link
	tgt    Target // nil in a comparison
	r      block.Range
	scan   *scanner
	window int64
	verify verify // what is read back at the end

	repaired func(off, n int64) error // called for what was written once more; with verify

	mu        sync.Mutex
	known     []*extent     // slot i%window: extent i of [oldest, announced); hold mu
	announced int64         // extents whose digests were sent; hold mu
	limit     int64         // extents whose digests may be sent; hold mu
	more      chan struct{} // limit grew

	oldest int64 // first extent not settled; owned by run
	floor  int64 // of the last Advance; owned by run
	named  int   // gaps, in all; owned by run
	root   *block.RootHash
	sum    wire.Summary // owned by run
	apply  applier
	queued int // answers; owned by run

	written []written // to be read back; owned by run

	// Messages are reused: one on the stack would be allocated for each extent.
	// Owned by run.
	advance wire.Advance
	want    wire.Want
	gaps    wire.Gaps
	blocks  wire.Blocks
	applied wire.Applied
}

// Receive brings range r of tgt to the content that the sender at the other end
// of link has. It returns when the range is durable and the root of what tgt
// now holds is the sender's, and all its goroutines have ended. window is the
// number of extents by which it may run ahead of the sender.
func Receive(ctx context.Context, link Link, tgt Target, r block.Range, window int64) (*wire.Summary, error) {
	return receive(ctx, link, tgt, tgt, r, window, verifyNothing, nil)
}

// receive scans src, and writes to tgt unless that is nil.
func receive(ctx context.Context, link Link, src Source, tgt Target, r block.Range, window int64, verify verify, repaired func(off, n int64) error) (*wire.Summary, error) {
	window = within(r, window)
	rc := &receiver{
		link: link, tgt: tgt, r: r, window: window, limit: window, verify: verify, repaired: repaired,
		scan:  newScanner(src, r, window, false),
		known: make([]*extent, window),
		more:  make(chan struct{}, 1),
		root:  block.NewRootHash(r),
	}
	rc.apply = newApplier(tgt, r)
	defer rc.apply.unsqueeze.Release()
	g, working := errgroup.WithContext(ctx)
	for range rc.scan.workers() {
		g.Go(func() error { return rc.scan.run(working) })
	}
	g.Go(func() error { return rc.announce(working) })
	g.Go(func() error { return rc.run(working) })
	err := g.Wait()
	rc.scan.retire()
	if err != nil {
		return nil, ended(ctx, err)
	}
	return &rc.sum, nil
}

// announce sends the extent digests in order, within the window.
func (rc *receiver) announce(ctx context.Context) error {
	var batch wire.Digests
	weight := 0 // of the extents in batch
	for i := range rc.r.Extents() {
		if !rc.allowed(i) {
			weight = 0
			if err := rc.sendDigests(&batch); err != nil {
				return err
			}
			if err := rc.await(ctx, i); err != nil {
				return err
			}
		}
		e, err := rc.scan.await(ctx, i)
		if err != nil {
			return err
		}
		rc.mu.Lock()
		rc.known[i%rc.window] = e
		rc.mu.Unlock()
		batch.Add(e.digest)
		weight += e.weight()
		if weight >= announceBatch*holesPerExtent || int64(batch.Len()) > i || i == rc.r.Extents()-1 {
			weight = 0
			if err := rc.sendDigests(&batch); err != nil {
				return err
			}
		}
	}
	return nil
}

func (rc *receiver) sendDigests(batch *wire.Digests) error {
	if batch.Len() == 0 {
		return nil
	}
	rc.mu.Lock()
	batch.First = rc.announced
	rc.announced += int64(batch.Len())
	rc.mu.Unlock()
	err := rc.link.Write(batch)
	batch.Sums = batch.Sums[:0]
	return err
}

// allowed tells whether the digest of extent i may be sent.
func (rc *receiver) allowed(i int64) bool {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return i < rc.limit
}

// await returns when the digest of extent i may be sent.
func (rc *receiver) await(ctx context.Context, i int64) error {
	for !rc.allowed(i) {
		select {
		case <-rc.more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// run takes the frames of the sender until it finishes.
func (rc *receiver) run(ctx context.Context) error {
	flush := rc.flush // made once: each would be allocated
	for {
		f, err := rc.link.Next(ctx, flush)
		if err != nil {
			return err
		}
		err = rc.take(ctx, &f)
		f.Release()
		if err != nil || f.Type == wire.TypeFinish {
			return err
		}
	}
}

// answer sends m with the next answers, but soon: when no frame is there to be taken, or
// after a few.
func (rc *receiver) answer(m wire.Message) error {
	if err := rc.link.Queue(m); err != nil {
		return err
	}
	if rc.queued++; rc.queued < answerBatch {
		return nil
	}
	return rc.flush()
}

func (rc *receiver) flush() error {
	rc.queued = 0
	return rc.link.Flush()
}

func (rc *receiver) take(ctx context.Context, f *wire.Frame) error {
	switch f.Type {
	case wire.TypeAdvance:
		if err := f.Decode(&rc.advance); err != nil {
			return err
		}
		return rc.takeAdvance(&rc.advance)
	case wire.TypeWant:
		if err := f.Decode(&rc.want); err != nil {
			return err
		}
		return rc.takeWant(rc.want.Extent)
	case wire.TypePatch:
		return rc.takePatch(f)
	case wire.TypeGaps:
		if err := f.Decode(&rc.gaps); err != nil {
			return err
		}
		return rc.takeGaps(&rc.gaps)
	case wire.TypeFinish:
		var m wire.Finish
		if err := f.Decode(&m); err != nil {
			return err
		}
		return rc.finish(ctx, m.Root)
	}
	return unexpected(f)
}

// takeAdvance settles all extents below the floor that were not spoken of: they
// are equal.
func (rc *receiver) takeAdvance(m *wire.Advance) error {
	rc.mu.Lock()
	announced := rc.announced
	rc.mu.Unlock()
	if m.Floor < rc.floor || m.Floor > announced {
		return wire.Errorf(wire.CodeProtocol, "protocol error: extents below %d settled, digests sent are %d", m.Floor, announced)
	}
	for ; rc.floor < m.Floor; rc.floor++ {
		if e := rc.extent(rc.floor); e != nil && e.state == stateScanned {
			e.state = stateSettled
			rc.sum.Equal += int64(e.length)
		}
	}
	if err := rc.settle(); err != nil {
		return err
	}
	rc.mu.Lock()
	// The sender counts from its oldest unsettled extent, which is never after ours.
	rc.limit = max(rc.limit, min(m.Limit, rc.oldest+rc.window))
	rc.mu.Unlock()
	select {
	case rc.more <- struct{}{}:
	default: // announce has not seen the last signal yet
	}
	return nil
}

// extent returns extent i when it was announced and is not settled for good.
func (rc *receiver) extent(i int64) *extent {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	if i < rc.oldest || i >= rc.announced {
		return nil
	}
	return rc.known[i%rc.window]
}

// settle adds the settled extents to the root, in order, and gives them back.
func (rc *receiver) settle() error {
	settler, _ := rc.tgt.(Settler)
	for {
		e := rc.extent(rc.oldest)
		if e == nil || e.state != stateSettled {
			return nil
		}
		if settler != nil {
			if err := rc.flush(); err != nil { // it may wait for who takes what is settled
				return err
			}
			if err := settler.Settled(e.offset, e.length); err != nil {
				return err
			}
		}
		rc.root.Add(e.digest)
		rc.note(e, verifyAll)
		rc.count(e)
		rc.mu.Lock()
		rc.known[rc.oldest%rc.window] = nil
		rc.mu.Unlock()
		rc.oldest++
		rc.scan.recycle(e)
	}
}

func (rc *receiver) count(e *extent) {
	if e.hole {
		rc.sum.Holes += int64(e.length)
	} else {
		rc.sum.Scanned += int64(e.length)
	}
}

// takeWant answers with the block digests of an extent.
func (rc *receiver) takeWant(i int64) error {
	e := rc.extent(i)
	if e == nil || e.state != stateScanned {
		return wire.Errorf(wire.CodeProtocol, "protocol error: block digests of extent %d cannot be asked for now", i)
	}
	return rc.sendBlocks(e)
}

func (rc *receiver) sendBlocks(e *extent) error {
	e.state = stateWanted
	rc.blocks.Extent, rc.blocks.Sums = e.index, rc.blocks.Sums[:0]
	for _, d := range e.blockDigests(rc.apply.old, rc.r.BlockSize) {
		rc.blocks.Add(d)
	}
	return rc.answer(&rc.blocks)
}

// takePatch verifies a patch, writes it and says so. A patch that does not lead
// to the digest it names is asked for again as a whole, once.
func (rc *receiver) takePatch(f *wire.Frame) error {
	p := &rc.apply.patch
	if err := f.Decode(p); err != nil {
		return err
	}
	e := rc.extent(p.Extent)
	if e == nil || e.state == stateSettled {
		return wire.Errorf(wire.CodeProtocol, "protocol error: patch of extent %d cannot come now", p.Extent)
	}
	ok, err := rc.apply.apply(e, &rc.sum)
	switch {
	case err != nil:
		return err
	case !ok && e.state == stateResent:
		return corrupted(e.offset, int64(e.length), "data does not match its digest")
	case !ok:
		e.state = stateResent
		m := wire.Resend{}
		m.Extent = p.Extent
		return rc.link.Write(&m)
	}
	e.state = stateSettled
	rc.note(e, verifyWritten)
	zero := len(e.gaps) == 0 && e.digest == block.ZeroExtent(e.length, rc.r.BlockSize)
	if err := rc.settle(); err != nil || zero {
		return err
	}
	rc.applied.Extent = p.Extent
	return rc.answer(&rc.applied)
}

// finish makes the range durable and answers with what it now is.
func (rc *receiver) finish(ctx context.Context, theirs block.Digest) error {
	if rc.oldest != rc.r.Extents() {
		return wire.Errorf(wire.CodeProtocol, "protocol error: finished with %d of %d extents settled", rc.oldest, rc.r.Extents())
	}
	rc.sum.Root = rc.root.Sum()
	if rc.sum.Root != theirs {
		return corrupted(rc.r.Offset, rc.r.Length, "the target does not hold what the sender read")
	}
	if rc.tgt != nil {
		if err := rc.tgt.Sync(); err != nil {
			return err
		}
	}
	if err := rc.readBack(ctx); err != nil {
		return err
	}
	return rc.link.Write(&wire.Finished{Root: rc.sum.Root})
}
