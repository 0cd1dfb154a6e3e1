package delta

import (
	"context"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// listener is one running Listen.
type listener struct {
	link   Link
	r      block.Range
	window int64
	each   func(i int64, d block.Digest) error

	heard   int64 // extents
	told    int64 // extents settled, by the last Advance
	root    *block.RootHash
	digests wire.Digests
	advance wire.Advance
}

// Listen is the sender of a comparison that has nothing to compare with: it calls each
// with the digest of every extent of range r that the receiver at the other end of link
// has, in order, and finds none to differ. So what is there becomes known at the speed of
// reading and hashing. It returns their root, which is also what the receiver says. The
// error of each ends it.
func Listen(ctx context.Context, link Link, r block.Range, window int64, each func(i int64, d block.Digest) error) (block.Digest, error) {
	l := &listener{link: link, r: r, window: window, each: each, root: block.NewRootHash(r)}
	root, err := l.run(ctx)
	if err != nil {
		return block.Digest{}, ended(ctx, err)
	}
	return root, nil
}

func (l *listener) run(ctx context.Context) (root block.Digest, err error) {
	for l.heard < l.r.Extents() {
		if err := l.next(ctx, wire.TypeDigests, l.takeDigests); err != nil {
			return root, err
		}
		if err := l.settle(); err != nil {
			return root, err
		}
	}
	root = l.root.Sum()
	if err := l.link.Write(&wire.Finish{Root: root}); err != nil {
		return root, err
	}
	var m wire.Finished
	if err := l.next(ctx, wire.TypeFinished, func(f *wire.Frame) error { return f.Decode(&m) }); err != nil {
		return root, err
	}
	if m.Root != root {
		return root, corrupted(l.r.Offset, l.r.Length, "the digests are not those of its root")
	}
	return root, nil
}

// next takes one frame, which must be of that type.
func (l *listener) next(ctx context.Context, want wire.Type, take func(*wire.Frame) error) error {
	f, err := l.link.Next(ctx, nil)
	if err != nil {
		return err
	}
	defer f.Release()
	if f.Type != want {
		return unexpected(&f)
	}
	return take(&f)
}

// takeDigests refuses what was not allowed to come.
func (l *listener) takeDigests(f *wire.Frame) error {
	m := &l.digests
	if err := f.Decode(m); err != nil {
		return err
	}
	limit := min(l.told+l.window, l.r.Extents())
	if m.First != l.heard || int64(m.Len()) > limit-l.heard {
		return wire.Errorf(wire.CodeProtocol, "protocol error: digests of %d extents from %d on, expected from %d to %d", m.Len(), m.First, l.heard, limit)
	}
	for i := range m.Len() {
		d := m.At(i)
		l.root.Add(d)
		if err := l.each(l.heard, d); err != nil {
			return err
		}
		l.heard++
	}
	return nil
}

// settle allows the receiver more, well before it has used up what it may send or what it
// may have read.
func (l *listener) settle() error {
	if l.heard-l.told < max(min(l.window, mostRead)/4, 1) && l.heard < l.r.Extents() {
		return nil
	}
	l.told = l.heard
	l.advance = wire.Advance{Settled: l.heard, Floor: l.heard, Limit: min(l.heard+l.window, l.r.Extents())}
	return l.link.Write(&l.advance)
}
