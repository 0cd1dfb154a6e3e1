package delta

import (
	"context"
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// deliverer is one running Deliver: hear takes all frames of the receiver and never waits
// for anything; run does all the writing.
type deliverer struct {
	link    Link
	r       block.Range
	window  int64
	digests []block.Digest
	patch   func(*wire.Patch) error

	mu        sync.Mutex
	theirs    []block.Digest // those that came; hold mu
	limit     int64          // extents whose digest may come; hold mu
	state     []state        // of the extents below the floor; hold mu
	oldest    int64          // first extent not settled; hold mu
	finishing bool           // Finished may come; hold mu
	finished  bool           // and came, with the right root; hold mu
	wake      chan struct{}  // something above changed

	root    block.Digest
	floor   int64        // extents compared; owned by run
	told    wire.Advance // the last one; owned by run
	message wire.Patch   // owned by run
	sum     wire.Summary // owned by run
}

// Deliver is the sender of a transfer that does not have the whole source: digests[i] is
// that of extent i of r, and patch is asked for those that the receiver does not have,
// but for extents of zeros. It fills in runs of data, encoding and data of the extent
// that is named; all other blocks are zero. The receiver verifies what it gets by the
// digest. It takes memory for two digests for each extent of r.
func Deliver(ctx context.Context, link Link, r block.Range, window int64, digests []block.Digest, patch func(*wire.Patch) error) (*wire.Summary, error) {
	d := &deliverer{link: link, r: r, window: window, digests: digests, patch: patch,
		limit: window, state: make([]state, r.Extents()), wake: make(chan struct{}, 1)}
	root := block.NewRootHash(r)
	for _, sum := range digests {
		root.Add(sum)
	}
	d.root = root.Sum()
	d.sum.Root, d.sum.Scanned = d.root, r.Length
	if err := converse(ctx, link, d.take, d.run); err != nil {
		return nil, ended(ctx, err)
	}
	return &d.sum, nil
}

// run deals with all extents in order, then has the receiver finish.
func (d *deliverer) run(ctx context.Context) error {
	for {
		theirs, ok := d.next()
		if ok {
			if err := d.compare(theirs); err != nil {
				return err
			}
		}
		if err := d.advance(); err != nil {
			return err
		}
		switch over, err := d.finish(); {
		case err != nil || over:
			return err
		case ok:
			continue
		}
		select {
		case <-d.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// next is the receiver's digest of the next extent, when it came.
func (d *deliverer) next() (theirs block.Digest, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.floor == int64(len(d.theirs)) {
		return theirs, false
	}
	return d.theirs[d.floor], true
}

// compare sends what the next extent calls for.
func (d *deliverer) compare(theirs block.Digest) error {
	i := d.floor
	d.floor++
	_, length := d.r.Extent(i)
	mine := d.digests[i]
	blocks := block.Count(length, d.r.BlockSize)
	p := &d.message
	*p = wire.Patch{Extent: i, Digest: mine, Encoding: wire.EncodingRaw, Runs: p.Runs[:0]}
	switch {
	case theirs == mine:
		d.sum.Equal += int64(length)
		d.enter(i, stateSettled)
		return nil
	case mine == block.ZeroExtent(length, d.r.BlockSize):
		d.sum.Zeroed += int64(length)
		d.enter(i, stateSettled) // a zero patch has no answer
		p.Runs = append(p.Runs, wire.Run{Zero: true, Count: uint16(blocks)})
		return d.link.Write(p)
	}
	if err := d.patch(p); err != nil {
		return err
	}
	data := 0
	for _, r := range p.Runs {
		data += min((int(r.First)+int(r.Count))*d.r.BlockSize, length) - int(r.First)*d.r.BlockSize
	}
	d.sum.Data += int64(data)
	d.sum.Zeroed += int64(length - data)
	p.Runs = withZeros(p.Runs, blocks)
	d.enter(i, statePatched)
	return d.link.Write(p)
}

// withZeros adds the runs of zeros between runs of data, and around them.
func withZeros(data []wire.Run, blocks int) []wire.Run {
	all := make([]wire.Run, 0, 2*len(data)+1)
	next := 0
	for _, r := range append(data, wire.Run{First: uint16(blocks)}) {
		if gap := int(r.First) - next; gap > 0 {
			all = append(all, wire.Run{Zero: true, First: uint16(next), Count: uint16(gap)})
		}
		if r.Count > 0 {
			all = append(all, r)
		}
		next = int(r.First) + int(r.Count)
	}
	return all
}

func (d *deliverer) enter(i int64, s state) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state[i] = s
	d.settle()
}

// settle counts the settled extents, in order. Hold mu.
func (d *deliverer) settle() {
	for d.oldest < int64(len(d.state)) && d.state[d.oldest] == stateSettled {
		d.oldest++
	}
}

// advance is that of a sender.
func (d *deliverer) advance() error {
	d.mu.Lock()
	all := d.r.Extents()
	now := wire.Advance{Settled: d.oldest, Floor: d.floor, Limit: max(d.limit, min(d.oldest+d.window, all))}
	starved := int64(len(d.theirs)) == d.limit && now.Limit > d.limit
	due := starved || now.Settled-d.told.Settled >= advanceStep || now.Floor-d.told.Floor >= advanceStep ||
		now.Floor == all && d.told.Floor < all || now.Settled == all && d.told.Settled < all
	if due {
		d.limit = now.Limit
	}
	d.mu.Unlock()
	if !due {
		return nil
	}
	d.told = now
	return d.link.Write(&now)
}

// finish sends Finish when all extents are settled, and tells whether the receiver has
// answered.
func (d *deliverer) finish() (over bool, err error) {
	d.mu.Lock()
	now := d.oldest == d.r.Extents() && !d.finishing
	d.finishing = d.finishing || now
	over = d.finished
	d.mu.Unlock()
	if now {
		err = d.link.Write(&wire.Finish{Root: d.root})
	}
	return over, err
}

// take checks a frame against what may come now.
func (d *deliverer) take(f *wire.Frame) error {
	defer func() {
		select {
		case d.wake <- struct{}{}:
		default: // run has not seen the last signal yet
		}
	}()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch f.Type {
	case wire.TypeDigests:
		var m wire.Digests
		if err := f.Decode(&m); err != nil {
			return err
		}
		have := int64(len(d.theirs))
		if m.First != have || have+int64(m.Len()) > min(d.limit, d.r.Extents()) {
			return wire.Errorf(wire.CodeProtocol, "protocol error: digests of %d extents from %d on, expected from %d and at most %d", m.Len(), m.First, have, d.limit)
		}
		for i := range m.Len() {
			d.theirs = append(d.theirs, m.At(i))
		}
		return nil
	case wire.TypeApplied:
		var m wire.Applied
		if err := f.Decode(&m); err != nil {
			return err
		}
		return d.answered(m.Extent, nil)
	case wire.TypeResend:
		var m wire.Resend
		if err := f.Decode(&m); err != nil {
			return err
		}
		off, length := d.r.Extent(m.Extent)
		return d.answered(m.Extent, corrupted(off, int64(length), "the data that was kept does not match its digest"))
	case wire.TypeFinished:
		var m wire.Finished
		if err := f.Decode(&m); err != nil {
			return err
		}
		return d.takeFinished(m.Root)
	}
	return unexpected(f)
}

// answered settles a patch, or fails with why. Hold mu.
func (d *deliverer) answered(i int64, why error) error {
	if i >= int64(len(d.state)) || d.state[i] != statePatched {
		return wire.Errorf(wire.CodeProtocol, "protocol error: an answer for extent %d, for which no patch was sent", i)
	}
	if why != nil {
		return why
	}
	d.state[i] = stateSettled
	d.settle()
	return nil
}

// takeFinished compares the roots. Hold mu.
func (d *deliverer) takeFinished(root block.Digest) error {
	switch {
	case !d.finishing:
		return wire.Errorf(wire.CodeProtocol, "protocol error: the receiver finished before the sender")
	case root != d.root:
		return corrupted(d.r.Offset, d.r.Length, "the target does not hold what was sent")
	}
	d.finished = true
	return nil
}
