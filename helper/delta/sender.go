package delta

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// advanceStep is how many extents the floor moves between two Advance frames.
const advanceStep = 4

// sender is one running Send.
//
// Three kinds of goroutines: the scanner's workers; [hear], which takes all frames
// of the receiver and never waits for anything, so that the receiver can always
// write; and run, which compares extents in order and does all the writing.
type sender struct {
	link    Link
	src     Source
	r       block.Range
	scan    *scanner
	window  int64
	dry     bool              // a comparison: patches go without their data
	once    bool              // src cannot be read again
	squeeze *compress.Encoder // of patches, nil in a comparison; owned by run

	mu        sync.Mutex
	theirs    []block.Digest // slot i%window: the receiver's digest of extent i; hold mu
	heard     int64          // extents whose digest came; hold mu
	limit     int64          // extents whose digest may come; hold mu
	known     []*extent      // slot i%window: extent i of [oldest, floor); hold mu
	oldest    int64          // first extent not settled; hold mu
	ready     []*extent      // extents to patch now; hold mu
	finishing bool           // Finished may come; hold mu
	finished  *wire.Finished // hold mu
	repair    bool           // extent repaired is wanted again, after the end; hold mu
	repaired  int64          // the last one that was, -1 for none; hold mu
	wake      chan struct{}  // something above changed

	sum     wire.Summary // owned by run
	floor   int64        // extents compared; owned by run
	told    wire.Advance // the last one; owned by run
	weight  int          // of the extents compared since; owned by run
	done    int          // weight of the extents settled since; owned by run
	waiting int          // extents that keep their data until Blocks come; owned by run
	root    *block.RootHash
	scratch *[]byte // data of patch; owned by run

	// Messages are reused: one on the stack would be allocated for each extent.
	patch    wire.Patch // owned by run, like the next three
	want     wire.Want
	gaps     wire.Gaps
	advanced wire.Advance
	applied  wire.Applied // owned by hear, like the next two
	digests  wire.Digests
	blocks   wire.Blocks
}

// Send brings the receiver at the other end of link to the content of range r of
// src. It returns when the receiver has made the range durable and both roots
// are equal, and all its goroutines have ended. window is what the receiver was
// told, in extents. squeeze, which compresses the patches, is its own until then.
func Send(ctx context.Context, link Link, src Source, r block.Range, window int64, squeeze *compress.Encoder) (*wire.Summary, error) {
	return send(ctx, link, src, r, window, squeeze, false)
}

func send(ctx context.Context, link Link, src Source, r block.Range, window int64, squeeze *compress.Encoder, dry bool) (*wire.Summary, error) {
	window = within(r, window)
	s := &sender{
		link: link, src: src, r: r, window: window, dry: dry, limit: window, squeeze: squeeze,
		scan:   newScanner(src, r, window, !dry),
		theirs: make([]block.Digest, window),
		known:  make([]*extent, window),
		wake:   make(chan struct{}, 1), repaired: -1,
		root:    block.NewRootHash(r),
		scratch: block.GetBuffer(),
	}
	defer block.PutBuffer(s.scratch)
	_, s.once = src.(Once)
	if !dry {
		s.scan.sends = s.missing
	}
	err := converse(ctx, link, s.take, s.work)
	s.scan.retire()
	if err != nil {
		return nil, ended(ctx, err)
	}
	return &s.sum, nil
}

// work has the extents scanned, and run deal with them.
func (s *sender) work(ctx context.Context) error {
	g, working := errgroup.WithContext(ctx)
	unwatch := func() bool { return true }
	if st, ok := s.src.(interface{ Stop(error) }); ok { // a Stream, perhaps wrapped
		unwatch = context.AfterFunc(working, func() { st.Stop(context.Cause(working)) })
	}
	for range s.scan.workers() {
		g.Go(func() error { return s.scan.run(working) })
	}
	g.Go(func() error {
		err := s.run(working)
		if err == nil {
			unwatch() // all is read: another range of the stream may follow
		}
		return err
	})
	return g.Wait()
}

// ended is the error of a transfer: the cause of the end of ctx, when it ended,
// since whatever failed then is a consequence.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// run compares all extents, then has the receiver finish.
func (s *sender) run(ctx context.Context) error {
	var cur *extent // the next extent in order, when it is scanned
	for {
		more, err := s.answer()
		if err != nil {
			return err
		}
		s.settle()
		if err := s.advance(); err != nil {
			return err
		}
		if more {
			continue
		}
		if cur == nil && s.floor < s.r.Extents() {
			cur = s.scan.pick(s.floor)
		}
		switch {
		case cur != nil:
			if theirs, ok := s.digest(cur.index); ok {
				if err := s.compare(cur, theirs); err != nil {
					return err
				}
				cur = nil
				continue
			}
		case s.floor == s.r.Extents() && s.idle():
			return s.finish(ctx)
		}
		if err := s.wait(ctx); err != nil {
			return err
		}
	}
}

// wait sends what is queued and returns when something has changed.
func (s *sender) wait(ctx context.Context) error {
	if err := s.link.Flush(); err != nil {
		return err
	}
	select {
	case <-s.scan.ready:
	case <-s.wake:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// digest returns the receiver's digest of extent i, when it came.
func (s *sender) digest(i int64) (block.Digest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.theirs[i%s.window], i < s.heard
}

// missing tells whether the receiver has said that it has nothing but zeros in extent i.
func (s *sender) missing(i int64) bool {
	theirs, ok := s.digest(i)
	_, length := s.r.Extent(i)
	return ok && theirs == block.ZeroExtent(length, s.r.BlockSize)
}

// idle tells whether all extents are settled.
func (s *sender) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.oldest == s.floor
}

// compare compares e with the receiver's digest and sends what that calls for.
func (s *sender) compare(e *extent, theirs block.Digest) error {
	s.weight += e.weight()
	s.count(e)
	if e.untold() && !s.keeps() {
		if err := s.tellGaps(e); err != nil {
			return err
		}
	}
	switch {
	case e.untold(): // only without the gaps can it be compared
		return s.ask(e)
	case e.digest == theirs:
		s.scan.forget(e) // one before it may wait for long
		s.enter(e, stateSettled)
		return nil
	case e.zero:
		s.enter(e, stateSettled) // a zero patch cannot be wrong and has no answer
		return s.sendPatch(e, whole)
	case theirs == block.ZeroExtent(e.length, s.r.BlockSize):
		s.enter(e, statePatched)
		return s.sendPatch(e, againstZero)
	}
	return s.ask(e)
}

// ask has the receiver answer with the block digests of e.
func (s *sender) ask(e *extent) error {
	s.enter(e, stateWanted)
	switch {
	case s.once, e.data == nil: // kept in any case; there is nothing to keep
	case s.waiting < Hold/2:
		s.waiting++
	default:
		s.scan.forget(e) // the way is long: others are read meanwhile, and this one again
	}
	if e.untold() {
		return s.tellGaps(e)
	}
	s.want.Extent = e.index
	return s.link.Queue(&s.want)
}

// enter makes e known to hear, in that state, and moves the floor over it.
func (s *sender) enter(e *extent, st state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.state = st
	s.known[e.index%s.window] = e
	s.floor++
}

func (s *sender) count(e *extent) {
	if e.hole {
		s.sum.Holes += int64(e.length)
	} else {
		s.sum.Scanned += int64(e.length)
	}
}

// settle adds the settled extents to the root, in order, and gives them back.
func (s *sender) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.oldest < s.floor {
		e := s.known[s.oldest%s.window]
		if e.state != stateSettled {
			return
		}
		s.root.Add(e.digest)
		s.sum.Data += e.sentData
		s.sum.Zeroed += e.sentZero
		s.sum.Equal += int64(e.length) - e.sentData - e.sentZero
		s.known[s.oldest%s.window] = nil
		s.oldest++
		s.done += e.weight()
		s.scan.recycle(e)
	}
}

// advance tells the receiver the floor, every few extents and at the end, and
// lets it run a window ahead of the oldest extent that it must still know. A
// receiver that has used up its window is told at once when there is more. What is
// settled is for those who show the progress.
func (s *sender) advance() error {
	s.mu.Lock()
	now := wire.Advance{Settled: s.oldest, Floor: s.floor, Limit: max(s.limit, min(s.oldest+s.window, s.r.Extents()))}
	starved := s.heard == s.limit && now.Limit > s.limit
	due := starved || max(s.weight, s.done) >= advanceStep*holesPerExtent ||
		now.Floor == s.r.Extents() && s.told.Floor < now.Floor || now.Settled == s.r.Extents() && s.told.Settled < now.Settled
	if due {
		s.limit = now.Limit
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	s.told, s.weight, s.done = now, 0, 0
	s.advanced = now
	return s.link.Write(&s.advanced)
}

// answer sends what the receiver asked for first; more tells that it did. It is one
// extent at a time, since a slow line takes long for each and others wait to see the
// progress.
func (s *sender) answer() (more bool, err error) {
	e, st := s.nextReady()
	switch st {
	case stateScanned:
		return false, nil
	case stateResent:
		return true, s.resend(e)
	}
	if !s.once && e.data != nil {
		s.waiting--
	}
	return true, s.sendPatch(e, againstBlocks)
}

// nextReady takes an extent from ready; stateScanned means that there is none.
func (s *sender) nextReady() (*extent, state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ready) == 0 {
		return nil, stateScanned
	}
	e := s.ready[0]
	s.ready = append(s.ready[:0], s.ready[1:]...) // few, and none is allocated anew
	switch e.state {
	case stateWanted:
		e.state = statePatched
	case stateRefused:
		e.state = stateResent
	}
	return e, e.state
}

// finish has the receiver make the range durable and compares the roots.
func (s *sender) finish(ctx context.Context) error {
	if c, ok := s.src.(Completer); ok {
		if err := c.Complete(); err != nil {
			return err
		}
	}
	s.sum.Root = s.root.Sum()
	s.mu.Lock()
	s.finishing = true
	s.mu.Unlock()
	if err := s.link.Write(&wire.Finish{Root: s.sum.Root}); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		finished, repair, again := s.finished, s.repair, s.repaired
		s.repair = false
		s.mu.Unlock()
		switch {
		case repair:
			if err := s.sendAgain(again); err != nil {
				return err
			}
		case finished != nil && finished.Root != s.sum.Root:
			return corrupted(s.r.Offset, s.r.Length, "the target does not hold what was sent")
		case finished != nil:
			return nil
		}
		if err := s.wait(ctx); err != nil {
			return err
		}
	}
}
