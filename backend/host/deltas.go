package host

import (
	"context"
	"fmt"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Collect reads range r of what is open and calls each with the extents that have not the
// known digest, as [delta.Collect] does. known has the digests of the range afterwards.
func (s *Session) Collect(ctx context.Context, r block.Range, known []block.Digest, each func(*delta.Change) error) (*Result, error) {
	if err := s.start(s.toSend(r, delta.Window)); err != nil {
		return nil, err
	}
	defer s.settle()
	defer s.limit(ctx)()
	got, err := delta.Collect(ctx, s, r, delta.Window, known, each)
	if err != nil {
		return nil, err
	}
	res := &Result{Receiver: *got}
	if err := s.reply(ctx, &res.Sender); err != nil {
		return nil, err
	}
	return res, res.check(r)
}

// Deliver brings range r of what is open to the digests, as [delta.Deliver] does: patch is
// asked for the extents that differ.
func (s *Session) Deliver(ctx context.Context, r block.Range, digests []block.Digest, patch func(*wire.Patch) error) (*Result, error) {
	if int64(len(digests)) != r.Extents() {
		return nil, fmt.Errorf("internal error: %d digests of %d extents", len(digests), r.Extents())
	}
	if err := s.start(s.toReceive(r)); err != nil {
		return nil, err
	}
	defer s.settle()
	defer s.limit(ctx)()
	var link delta.Link = s
	held := s.tally(r)
	if held != nil {
		link = tallied{s, held}
	}
	sent, err := delta.Deliver(ctx, link, r, delta.Window, digests, patch)
	if err != nil {
		return nil, err
	}
	res := &Result{Sender: *sent}
	if err := s.reply(ctx, &res.Receiver); err != nil {
		return nil, err
	}
	if err := res.check(r); err != nil {
		return res, err
	}
	return res, held.hand(s, res.Receiver.Root)
}
