package blockdev

import (
	"context"
	"encoding/hex"
	"errors"
	"io"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
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
	if n >= block.ExtentSize { // less costs more than it can save
		if ref, err := o.reference(ctx); err != nil {
			return nil, err
		} else if ref != nil {
			return o.rebuild(ctx, at, ref, off, n)
		}
	}
	s, err := at.host.Session(ctx)
	if err != nil {
		return nil, classify(err)
	}
	r := &reader{ctx: ctx, s: s, size: o.Size(), off: off}
	if r.r, err = s.OpenReader(ctx, at.path, off, n); err != nil {
		r.Close()
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
	ctx  context.Context
	s    *host.Session
	r    *host.Reader
	size int64 // of the object
	off  int64 // of the next byte
}

// Read reads the next bytes.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.off += int64(n)
	if err != nil && err != io.EOF {
		err = classify(err)
	}
	return n, err
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
	r.off = offset
	r.r.Move(offset, n)
	return offset, nil
}

// Close gives the session back, also in the middle of the range. A helper that
// does not answer is given up.
func (r *reader) Close() error {
	if r.s == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), abortTime)
	defer cancel()
	err := r.s.Close(ctx, false, 0)
	if r.r != nil {
		r.r.Close()
	}
	r.s.Release()
	r.s = nil
	return classify(err)
}

func hexDigest(d block.Digest) string { return hex.EncodeToString(d[:]) }

var _ fs.RangeSeeker = (*reader)(nil)
