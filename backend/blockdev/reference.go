package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/lib/encoder"
	"github.com/rclone/rclone/lib/env"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// reference opens what the option reference names for o on this machine: a file
// or device, or in a directory the one that is there as o is below its remote.
// It is nil when there is none, so that all must be read from the host.
func (o *Object) reference(ctx context.Context) (*device.Object, error) {
	name := o.fs.opt.Reference
	if name == "" {
		return nil, nil
	}
	name, err := filepath.Abs(env.ShellExpand(name))
	if err != nil {
		return nil, refuse("reference: %w", err)
	}
	info, err := os.Stat(name)
	if err == nil && info.IsDir() {
		name = filepath.Join(name, filepath.FromSlash(encoder.OS.FromStandardPath(o.remote)))
		info, err = os.Stat(name)
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		o.told.Do(func() { fs.Infof(o, "there is no reference %s: reading all", name) })
		return nil, nil
	case err != nil:
		return nil, refuse("reference: %w", err)
	case info.IsDir():
		return nil, refuse("reference %s: is a directory, and %s is not", name, o.remote)
	case fs.GetConfig(ctx).Inplace:
		o.fs.unused.Do(func() {
			fs.Logf(o, "the reference %s is not used with --inplace, which may overwrite it while it is read", name)
		})
		return nil, nil
	}
	ref, err := device.OpenRead(name)
	if err != nil {
		return nil, refuse("reference: %w", err)
	}
	o.told.Do(func() { fs.Infof(o, "reading what differs from the reference %s", name) })
	return ref, nil
}

// rebuilding reads a range of an object by means of a reference. After a lost
// connection it goes on where it was.
type rebuilding struct {
	*rebuilt
	o        *Object
	ctx      context.Context
	from     place
	off, end int64 // of what is still to be read
	resume   *resume
	gaps     gaps
	closed   bool
	around   *user
	whole    bool  // all was read
	err      error // of a connection that did not come back
}

// rebuildAll reads n bytes at off of what is at from. It closes ref.
func (o *Object) rebuildAll(ctx context.Context, from place, ref *device.Object, off, n int64, around *user) (io.ReadCloser, error) {
	b := &rebuilding{o: o, ctx: ctx, from: from, off: off, end: off + n, resume: newResume(o), around: around}
	var err error
	if b.rebuilt, err = o.rebuild(ctx, from, ref, off, n, &b.gaps, around); err != nil {
		return nil, err
	}
	return b, nil
}

// Read reads the next bytes.
func (b *rebuilding) Read(p []byte) (int, error) {
	for b.err == nil {
		n, err := b.rebuilt.Read(p)
		b.off += int64(n)
		switch {
		case n > 0:
			b.resume.progress()
			return n, nil // an error comes again
		case err == nil:
			return 0, nil
		case err == io.EOF:
			return 0, b.ended()
		}
		b.err = classify(b.resume.after(b.ctx, b.around.explain(b.ctx, err), b.again))
	}
	return 0, b.err
}

// ended is io.EOF, unless what was read is void.
func (b *rebuilding) ended() error {
	if !b.whole {
		if err := b.around.check(b.ctx, b.made); err != nil {
			b.err = classify(err)
			return b.err
		}
		b.whole = b.off == b.o.Size()
	}
	return io.EOF
}

// Close ends the transfer, also in the middle.
func (b *rebuilding) Close() error {
	err := b.rebuilt.Close()
	if !b.closed {
		b.closed = true
		b.o.concludeRead(b.ctx, &b.gaps)
	}
	b.around.closed(b.whole, b.err)
	return err
}

// again asks for what is still to be read, which must be of the same object.
func (b *rebuilding) again(ctx context.Context) error {
	_ = b.rebuilt.Close() // of a lost connection
	b.gaps.forget(b.off)
	ref, err := b.o.reference(ctx)
	switch {
	case err != nil:
		return err
	case ref == nil:
		return refuse("the reference is gone")
	}
	fresh, err := b.o.rebuild(ctx, b.from, ref, b.off, b.end-b.off, &b.gaps, b.around)
	if err != nil {
		return err
	}
	switch {
	case fresh.made != b.made:
		_ = fresh.Close()
		return errGone
	case fresh.id != b.id:
		_ = fresh.Close()
		return fserrors.RetryError(errAnother)
	}
	b.rebuilt = fresh
	return nil
}

// rebuilt reads a range of an object, of which only what differs from the
// reference crosses the network. It holds a session until it is closed.
type rebuilt struct {
	*delta.Rebuilder
	s      *host.Session
	id     string // of what is read
	made   int64  // of the surroundings
	skip   int64  // bytes before the range that was asked for
	cancel context.CancelFunc
	ended  chan struct{} // the transfer has, and closed the reference
}

// rebuild reads n bytes at off of what is at from. It closes ref, and collects what
// cannot be read.
func (o *Object) rebuild(ctx context.Context, from place, ref *device.Object, off, n int64, found *gaps, around *user) (*rebuilt, error) {
	source, err := openWithin(ctx, from, wire.ReadErrors(o.fs.opt.ReadErrors), around, false)
	if err == nil && off+n > source.opened.Size {
		source.close()
		err = host.HasShrunk(from.path, source.opened.Size, off, n)
	}
	if err != nil {
		ref.Close()
		return nil, classify(err)
	}
	source.salvage(found)
	skip := off % block.DefaultSize
	r := block.Range{Offset: off - skip, Length: n + skip, BlockSize: block.DefaultSize}
	ctx, cancel := context.WithCancel(ctx)
	b := &rebuilt{delta.NewRebuilder(ctx, ref, ref.Size(), r), source.s, identity(source.s, source.opened.Entry), source.made, skip, cancel, make(chan struct{})}
	go func() {
		defer close(b.ended)
		res, err := host.ReceiveFrom(ctx, source.s, b.Rebuilder, r, delta.RebuildWindow)
		if err == nil {
			fs.Debugf(o, "%v from the reference %s, %v differed, %v on the wire",
				fs.SizeSuffix(res.Receiver.Equal), ref.Path(), fs.SizeSuffix(res.Receiver.Data), fs.SizeSuffix(source.wire()))
		}
		ref.Close()
		b.End(err)
	}()
	return b, nil
}

// Read reads the next bytes.
func (b *rebuilt) Read(p []byte) (int, error) {
	if b.skip > 0 {
		n, err := io.CopyN(io.Discard, b.Rebuilder, b.skip)
		b.skip -= n
		if err != nil {
			return 0, b.explain(err)
		}
	}
	n, err := b.Rebuilder.Read(p)
	return n, b.explain(err)
}

func (b *rebuilt) explain(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return classify(fmt.Errorf("reading with a reference: %w", err))
}

// Close ends the transfer, also in the middle, and gives the session back.
func (b *rebuilt) Close() error {
	if b.s == nil {
		return nil
	}
	b.cancel()
	<-b.ended
	source := lease{s: b.s}
	source.close()
	b.s = nil
	return nil
}
