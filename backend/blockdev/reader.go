package blockdev

import (
	"context"
	"encoding/hex"
	"io"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// reader reads a range of an object. It holds a session until it is closed.
type reader struct {
	ctx context.Context
	s   *host.Session
	r   *host.Reader
}

// open opens path on s and asks for a range of it. The session stays the
// caller's when that fails.
func open(ctx context.Context, s *host.Session, path string, off, n int64) (*reader, error) {
	opened, err := s.OpenRead(ctx, path)
	if err != nil {
		return nil, err
	}
	if off+n > opened.Size {
		return nil, wire.Errorf(wire.CodeSource, "%s: ends at byte %d, before the %d bytes at %d: it has shrunk since it was listed", path, opened.Size, n, off)
	}
	r, err := s.Read(ctx, off, n)
	if err != nil {
		return nil, err
	}
	return &reader{ctx: ctx, s: s, r: r}, nil
}

// Read reads the next bytes.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		err = classify(err)
	}
	return n, err
}

// Close gives the session back, also in the middle of the range.
func (r *reader) Close() error {
	if r.s == nil {
		return nil
	}
	r.r.Close()
	err := r.s.Close(context.WithoutCancel(r.ctx), false, 0)
	r.s.Release()
	r.s = nil
	return classify(err)
}

func hexDigest(d block.Digest) string { return hex.EncodeToString(d[:]) }
