package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/lib/encoder"
	"github.com/rclone/rclone/lib/env"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
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

// rebuilt reads a range of an object, of which only what differs from the
// reference crosses the network. It holds a session until it is closed.
type rebuilt struct {
	*delta.Rebuilder
	s      *host.Session
	skip   int64 // bytes before the range that was asked for
	cancel context.CancelFunc
	ended  chan struct{} // the transfer has, and closed the reference
}

// rebuild reads n bytes at off of what is at from. It closes ref.
func (o *Object) rebuild(ctx context.Context, from place, ref *device.Object, off, n int64) (io.ReadCloser, error) {
	source, err := openSource(ctx, from)
	if err == nil && off+n > source.opened.Size {
		source.close()
		err = host.HasShrunk(from.path, source.opened.Size, off, n)
	}
	if err != nil {
		ref.Close()
		return nil, classify(err)
	}
	skip := off % block.DefaultSize
	r := block.Range{Offset: off - skip, Length: n + skip, BlockSize: block.DefaultSize}
	ctx, cancel := context.WithCancel(ctx)
	b := &rebuilt{delta.NewRebuilder(ctx, ref, ref.Size(), r), source.s, skip, cancel, make(chan struct{})}
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
