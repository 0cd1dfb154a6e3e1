package blockdev

import (
	"context"
	"encoding/hex"
	"errors"
	"io"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Open reads the content or a range of it.
func (o *Object) Open(ctx context.Context, options ...fs.OpenOption) (rc io.ReadCloser, err error) {
	off, n := span(o.Size(), options)
	at, err := o.fs.place(o.remote)
	if err != nil {
		return nil, err
	}
	if at.host == nil {
		return nil, errNoHost
	}
	err = at.again(ctx, func() error {
		rc, err = o.open(ctx, at, off, n)
		return err
	})
	return rc, err
}

func (o *Object) open(ctx context.Context, at place, off, n int64) (io.ReadCloser, error) {
	around, err := o.fs.reading(at)
	if err != nil {
		return nil, err
	}
	rc, err := o.openWithin(ctx, at, off, n, around)
	if err != nil {
		around.closed(false, err)
	}
	return rc, err
}

func (o *Object) openWithin(ctx context.Context, at place, off, n int64, around *user) (io.ReadCloser, error) {
	if n >= block.ExtentSize || wire.ReadErrors(o.fs.opt.ReadErrors) == wire.ReadSkip { // less costs more than it can save
		if ref, err := o.reference(ctx); err != nil {
			return nil, err
		} else if ref != nil {
			return o.rebuildAll(ctx, at, ref, off, n, around)
		}
	}
	r := &reader{o: o, ctx: ctx, at: at, size: o.Size(), off: off, end: off + n, resume: newResume(o), around: around}
	if err := r.open(ctx); err != nil {
		return nil, classify(err)
	}
	return r, nil
}

// span is what the options ask for of size bytes. Ranges may reach past the end.
func span(size int64, options []fs.OpenOption) (off, n int64) {
	off, n = 0, size
	for _, option := range options {
		switch x := option.(type) {
		case *fs.SeekOption:
			off, n = x.Offset, size-x.Offset
		case *fs.RangeOption:
			var limit int64
			if off, limit = x.Decode(size); limit < 0 {
				limit = size
			}
			n = min(limit, size-off)
		default:
			if option.Mandatory() {
				fs.Logf(nil, "unsupported mandatory option: %v", option)
			}
		}
	}
	return within(size, off, n)
}

// within cuts n bytes at off to what an object of size bytes has of them.
func within(size, off, n int64) (int64, int64) {
	off = min(max(off, 0), size)
	return off, max(min(n, size-off), 0)
}

// reader reads a range of an object. It holds a session until it is closed.
type reader struct {
	o      *Object
	ctx    context.Context
	at     place
	s      *host.Session // nil after Close, and after a lost connection that did not come back
	r      *host.Reader
	size   int64 // of the object
	off    int64 // of the next byte
	end    int64 // of the range
	id     string
	resume *resume
	gaps   gaps // of what was read
	closed bool
	around *user
	made   int64 // of attach
	whole  bool  // all was read
	err    error // of a connection that did not come back
}

// open asks for the range. What is read must be what it was before.
func (r *reader) open(ctx context.Context) error {
	s, err := r.at.host.Session(ctx)
	if err != nil {
		return err
	}
	how := r.o.salvaged()
	if how != wire.ReadStop {
		r.gaps.forget(r.off)
		s.OnGaps(r.gaps.add)
	}
	made, err := r.around.attach(ctx, s, false)
	if err == nil {
		r.r, err = s.OpenSalvaging(ctx, r.at.path, r.off, r.end-r.off, how)
	}
	if err != nil {
		if r.around != nil && s.Usable() {
			_ = s.Detach(ctx)
		}
		s.Release()
		return err
	}
	r.s = s
	id := identity(s, r.r.Opened.Entry)
	switch {
	case r.id != "" && r.made != made:
		r.drop()
		return errGone
	case r.id != "" && r.id != id:
		r.drop()
		return fserrors.RetryError(errAnother)
	}
	r.id, r.made = id, made
	return nil
}

// errAnother lets rclone begin again, since what was read before is of another object.
var errAnother = errors.New("it became another object, or its host was restarted, while the connection was lost")

// drop gives the session back, whose helper ends with what is open.
func (r *reader) drop() {
	r.r.Close()
	r.s.Release()
	r.s = nil
}

// Read reads the next bytes. After a lost connection it goes on where it was.
func (r *reader) Read(p []byte) (int, error) {
	for r.err == nil {
		n, err := r.r.Read(p)
		r.off += int64(n)
		switch {
		case n > 0:
			r.resume.progress()
			return n, nil // an error comes again
		case err == nil:
			return 0, nil
		case err == io.EOF:
			return 0, r.ended()
		}
		err = r.around.explain(r.ctx, r.o.explainRead(err))
		r.err = classify(r.resume.after(r.ctx, err, func(ctx context.Context) error {
			if r.s != nil {
				r.drop()
			}
			return r.open(ctx)
		}))
	}
	return 0, r.err
}

// ended is io.EOF, unless what was read is void.
func (r *reader) ended() error {
	if !r.whole {
		if err := r.around.check(r.ctx, r.made); err != nil {
			r.err = classify(err)
			return r.err
		}
		r.whole = r.off == r.size
	}
	return io.EOF
}

// RangeSeek goes on with length bytes at offset, or with all that follow when
// length is negative. It costs nothing until the next byte is read, and then one
// round trip: what is on its way of the old range is cancelled, not waited for.
func (r *reader) RangeSeek(ctx context.Context, offset int64, whence int, length int64) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.off
	case io.SeekEnd:
		offset += r.size
	}
	if r.s == nil || offset < 0 || offset > r.size {
		return 0, errors.New("seek out of range, or after Close")
	}
	if length < 0 {
		length = r.size
	}
	_, n := within(r.size, offset, length)
	r.off, r.end, r.err = offset, offset+n, nil
	r.r.Move(offset, n)
	return offset, nil
}

// Close gives the session back, also in the middle of the range. A helper that
// does not answer is given up.
func (r *reader) Close() error {
	if !r.closed {
		r.closed = true
		r.o.concludeRead(r.ctx, &r.gaps)
	}
	if r.s == nil {
		r.around.closed(false, r.err)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), abortTime)
	defer cancel()
	err := r.s.Close(ctx, false, 0)
	r.drop()
	r.around.closed(r.whole, r.err)
	return classify(err)
}

func hexDigest(d block.Digest) string { return hex.EncodeToString(d[:]) }

var _ fs.RangeSeeker = (*reader)(nil)
