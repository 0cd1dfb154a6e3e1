package blockdev

import (
	"context"
	"errors"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
)

// streaming is a transfer from a source that can be read only once. Two pieces of it
// are on their way at once, so that the line is busy while one becomes durable.
type streaming struct {
	t       *target
	plan    *Plan
	kept    *replay
	report  *report
	resume  *resume
	sharing sharing
}

// errUnread is for what is gone at the target and cannot be read again.
var errUnread = errors.New("what was copied before is no longer there, and the source cannot be read again")

// work sends all that is left.
func (s *streaming) work(ctx context.Context, src fs.ObjectInfo) error {
	if err := s.send(ctx); err != nil {
		return err
	}
	return s.t.commit(ctx, src, s.report)
}

func (s *streaming) send(ctx context.Context) error {
	streams := 1
	if s.kept.length > pieceSize && s.t.streams(false) > 1 {
		streams = 2
	}
	lead := func(ctx context.Context) error { return s.pieces(ctx, s.t.lead) }
	return s.sharing.run(ctx, s.t.o, streams, lead, func(ctx context.Context) (func() error, error) {
		l, err := s.t.join(ctx)
		return func() error {
			defer l.close()
			return s.pieces(ctx, l)
		}, err
	})
}

// pieces sends pieces until there is none.
func (s *streaming) pieces(ctx context.Context, l *lease) error {
	defer s.report.join(l)()
	for {
		x, err := s.kept.next(ctx)
		if x == nil || err != nil {
			return err
		}
		s.sharing.tell(l)
		res, err := host.SendTo(ctx, x, l.s, x.span())
		if err != nil {
			s.kept.giveBack(x)
			return err
		}
		s.resume.progress()
		s.report.settle(x.span(), res)
		s.kept.finish(x)
	}
}

// reopen opens the target again.
func (s *streaming) reopen(ctx context.Context) error {
	void, err := s.t.reopen(ctx, s.report)
	if err == nil && void && s.kept.sent() {
		return fserrors.RetryError(errUnread)
	}
	return err
}

var (
	_ delta.Source    = (*piece)(nil)
	_ delta.Completer = (*piece)(nil)
)
