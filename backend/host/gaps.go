package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// OnGaps has fn called with the places of a source that could not be read, before
// what stands for them comes: by Join, Compare, ReceiveFrom and a Reader with s as the
// source, which was opened to go on after read errors. A place may be told more than
// once. It ends with Release. Without it a helper that tells of gaps is refused: what
// it sends is not what the source has.
func (s *Session) OnGaps(fn func([]wire.Gap)) { s.gaps = fn }

// takeGaps tells of the gaps in f, which must lie within r.
func (s *Session) takeGaps(f *wire.Frame, r block.Range) error {
	if s.gaps == nil {
		return ignore(f)
	}
	var m wire.Gaps
	if err := f.Decode(&m); err != nil {
		return err
	}
	if m.List[0].Offset < r.Offset || m.List[len(m.List)-1].End() > r.Offset+r.Length {
		return errors.New("protocol error: the sender could not read what it was not asked for")
	}
	s.gaps(m.List)
	return nil
}

// gapped is a session as the link of a receiver in this process. It tells of the gaps
// that pass.
type gapped struct {
	*Session
	r block.Range
}

// Next is that of the session.
func (g gapped) Next(ctx context.Context, idle func() error) (wire.Frame, error) {
	f, err := g.Session.Next(ctx, idle)
	if err != nil || f.Type != wire.TypeGaps {
		return f, err
	}
	if err = g.takeGaps(&f, g.r); err != nil {
		f.Release()
	}
	return f, err
}

// ErrUnreadable is part of an error that says where a source cannot be read.
var ErrUnreadable = errors.New("the source cannot be read there")

// unreadable adds to a read error of a source what can be done about it.
func unreadable(err error) error {
	if err == nil || !errors.Is(err, wire.CodeIO) {
		return err
	}
	return fmt.Errorf("%w: %w: read_errors = zero or skip goes on behind it", err, ErrUnreadable)
}
