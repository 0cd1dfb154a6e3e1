package host

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Keep has keep called after each transfer by Join or SendTo with s as the target, with
// its range and the digests of all extents of it as the target now holds them. It ends
// with Release. What keep is given is its own.
func (s *Session) Keep(keep func(r block.Range, digests []block.Digest) error) { s.keep = keep }

// Digests reads range r of what is open for reading, and calls each with the digest of
// every extent, in order. Its error ends the reading.
func (s *Session) Digests(ctx context.Context, r block.Range, each func(i int64, d block.Digest) error) (block.Digest, error) {
	req := wire.NewReceive(r, delta.Window)
	req.Compare = true // it is the receiver of a comparison with nothing
	if err := s.start(req); err != nil {
		return block.Digest{}, err
	}
	defer s.settle()
	defer s.limit(ctx)()
	root, err := delta.Listen(ctx, s, r, delta.Window, each)
	if err != nil {
		return root, err
	}
	var sum wire.Summary
	if err := s.reply(ctx, &sum); err != nil {
		return root, err
	}
	if sum.Root != root || sum.Scanned+sum.Holes != r.Length {
		return root, fmt.Errorf("protocol error: the helper of %s sums up something else than it has sent", s.host.name)
	}
	return root, nil
}

// tally learns from the frames of a transfer which digest each extent of the target has
// at its end: that of the last patch, or the one that the receiver has announced. It
// believes neither end: the root that the receiver has computed of what the target holds
// must be that of these digests. A nil tally learns nothing.
type tally struct {
	r block.Range

	mu      sync.Mutex
	digests []block.Digest // of the extents announced; hold mu
	message wire.Digests   // hold mu
}

// tally is one for a transfer into what is open on s.
func (s *Session) tally(r block.Range) *tally {
	if s.keep == nil {
		return nil
	}
	return &tally{r: r}
}

var errTally = errors.New("protocol error: digests of extents that cannot come now")

// announced takes Digests of the receiver.
func (t *tally) announced(f *wire.Frame) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := f.Decode(&t.message); err != nil {
		return err
	}
	if t.message.First != int64(len(t.digests)) || int64(t.message.Len()) > t.r.Extents()-t.message.First {
		return errTally
	}
	for i := range t.message.Len() {
		t.digests = append(t.digests, t.message.At(i))
	}
	t.message.Sums = nil // it goes with the frame
	return nil
}

// patched takes the digest in a Patch of the sender.
func (t *tally) patched(extent int64, d block.Digest) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if extent < 0 || extent >= int64(len(t.digests)) {
		return errTally
	}
	t.digests[extent] = d
	return nil
}

// relayed takes a Patch that passes.
func (t *tally) relayed(f *wire.Frame) error {
	if t == nil {
		return nil
	}
	extent, d, err := f.PatchDigest()
	if err != nil {
		return err
	}
	return t.patched(extent, d)
}

// hand gives what was learned to who wants to keep it, after a transfer that went well
// and at whose end the target had the root held.
func (t *tally) hand(s *Session, held block.Digest) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	root := block.NewRootHash(t.r)
	for _, d := range t.digests {
		root.Add(d)
	}
	if int64(len(t.digests)) != t.r.Extents() || root.Sum() != held {
		return fmt.Errorf("protocol error: the digests that the helper of %s has sent are not those of the root of what it holds", s.host.name)
	}
	return s.keep(t.r, t.digests)
}

// tallied is the link to a receiver, with a tally of what passes.
type tallied struct {
	*Session
	t *tally
}

func (l tallied) Next(ctx context.Context, idle func() error) (wire.Frame, error) {
	f, err := l.Session.Next(ctx, idle)
	if err == nil && f.Type == wire.TypeDigests {
		if err = l.t.announced(&f); err != nil {
			f.Release()
		}
	}
	return f, err
}

func (l tallied) Write(m wire.Message) error {
	if err := l.sends(m); err != nil {
		return err
	}
	return l.Session.Write(m)
}

func (l tallied) Queue(m wire.Message) error {
	if err := l.sends(m); err != nil {
		return err
	}
	return l.Session.Queue(m)
}

func (l tallied) sends(m wire.Message) error {
	if p, ok := m.(*wire.Patch); ok {
		return l.t.patched(p.Extent, p.Digest)
	}
	return nil
}
