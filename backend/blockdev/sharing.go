package blockdev

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/rclone/rclone/fs"
	"golang.org/x/sync/errgroup"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// sharing is how many streams are at work on one thing: the helper of each uses its share of the
// processors of its host.
type sharing struct{ streams atomic.Int32 }

// run does one thing, that of o, by so many streams: lead is the first of them, and open opens
// a further one and gives what it does. Where one cannot be opened the others do its work, but
// a source that has become another one is an error.
func (s *sharing) run(ctx context.Context, o any, streams int, lead func(context.Context) error, open func(context.Context) (work func() error, err error)) error {
	s.begin(streams)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer s.end()
		return lead(ctx)
	})
	for range streams - 1 {
		g.Go(func() error {
			defer s.end()
			work, err := open(ctx)
			switch {
			case errors.Is(err, wire.CodeSource):
				return err
			case err != nil:
				fs.Debugf(o, "going on with fewer streams: %v", err)
				return nil
			}
			return work()
		})
	}
	return g.Wait()
}

// begin says that so many streams will work.
func (s *sharing) begin(streams int) { s.streams.Store(int32(streams)) }

// end says that one of them has ended, or could not begin: there is more for the others.
func (s *sharing) end() { s.streams.Add(-1) }

// tell has the helpers of one stream use the share that they have now, for what they are asked
// next. Where source and target are on one host, each stream has two of them there.
func (s *sharing) tell(of ...*lease) {
	for _, l := range of {
		n := 0
		for _, o := range of {
			if o.s.Host() == l.s.Host() {
				n++
			}
		}
		l.s.ShareProcessors(n * int(s.streams.Load()))
	}
}
