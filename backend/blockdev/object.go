package blockdev

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/accounting"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Object is a block device or an image file.
type Object struct {
	fs      *Fs
	remote  string
	entry   wire.Entry  // as of the last look
	found   time.Time   // when that was first
	told    sync.Once   // of the reference
	damaged atomic.Bool // it could not be read as a whole
}

func (f *Fs) newObject(remote string, e wire.Entry) *Object {
	return &Object{fs: f, remote: remote, entry: e, found: clock.next()}
}

// clock gives each object another time, also where the system's is coarse: two
// devices with one time would count as equal.
var clock ticks

type ticks struct {
	mu   sync.Mutex
	last time.Time // hold mu
}

func (c *ticks) next() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := time.Now().Round(0)
	if !t.After(c.last) {
		t = c.last.Add(time.Nanosecond)
	}
	c.last = t
	return t
}

// Fs is the remote that the object is of.
func (o *Object) Fs() fs.Info { return o.fs }

// String is the path for messages.
func (o *Object) String() string {
	if o == nil {
		return "<nil>"
	}
	return o.remote
}

// Remote is the path below the root of the Fs.
func (o *Object) Remote() string { return o.remote }

// Size in bytes.
func (o *Object) Size() int64 { return o.entry.Size }

// ModTime of an image file is that of the file. A device has none that says
// anything about its content: it counts as changed when it was found, so that it
// is never skipped for its time, also by a server that keeps the Fs for days.
func (o *Object) ModTime(ctx context.Context) time.Time {
	if o.entry.Kind == wire.KindBlock {
		return o.found
	}
	return time.Unix(0, o.entry.ModTime)
}

// SetModTime sets the time of an image file. Devices have none to set.
func (o *Object) SetModTime(ctx context.Context, t time.Time) error {
	if o.entry.Kind == wire.KindBlock {
		return nil
	}
	at, err := o.fs.place(o.remote)
	if err != nil {
		return err
	}
	err = at.with(ctx, func(s *host.Session) error { return s.SetTime(ctx, at.path, t.UnixNano()) })
	if err == nil {
		o.entry.ModTime = t.UnixNano()
	}
	return err
}

// Storable tells rclone that the object can be copied.
func (o *Object) Storable() bool { return true }

// MimeType of a disk, or of a file by its name.
func (o *Object) MimeType(ctx context.Context) string {
	if o.entry.Kind == wire.KindBlock {
		return "application/octet-stream"
	}
	return fs.MimeTypeFromName(o.remote)
}

// ID is equal for two names of one device, also on two remotes.
func (o *Object) ID() string { return o.entry.ID }

// Update brings the object to the content of in, moving only what differs. An
// image file gets the size and time of src; a device must be as large as src.
func (o *Object) Update(ctx context.Context, in io.Reader, src fs.ObjectInfo, options ...fs.OpenOption) error {
	if src.Size() < 0 {
		return refuse("%s: the size of the source is not known: give it with --size of rcat, or copy a file", o.remote)
	}
	// Only rclone's own reader may be left unread: others sit between it and us,
	// and see or change what passes.
	if acc, ok := in.(*accounting.Account); ok {
		if from := localFile(ctx, src); from != nil {
			acc.Abandon() // else it reads ahead what is read again
			return o.transfer(ctx, src, *from, o.fs.opt.ReadErrors, acc.AccountReadN)
		}
	}
	return o.receive(ctx, in, src)
}

// Remove removes an image file. Devices are refused, by the helper too.
func (o *Object) Remove(ctx context.Context) error {
	if o.entry.Kind == wire.KindBlock {
		return once(ctx, refuse("%s: is a block device and is never removed", o.remote))
	}
	at, err := o.fs.place(o.remote)
	if err != nil {
		return err
	}
	if err := refuseAlias(ctx, o.entry.ID, at); err != nil {
		return once(ctx, err)
	}
	if err := o.refuseDamaged(ctx); err != nil {
		return err
	}
	return at.with(ctx, func(s *host.Session) error { return s.Remove(ctx, at.path) })
}

var (
	_ fs.Object    = (*Object)(nil)
	_ fs.IDer      = (*Object)(nil)
	_ fs.MimeTyper = (*Object)(nil)
)
