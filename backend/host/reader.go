package host

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// The window is how many bytes of data may be on their way to a Reader. It starts
// small, because who seeks about reads little at each place and would wait for
// the rest to pass, and grows while the reading goes on to more than an SSH
// channel holds, so that the network is the limit.
const (
	firstWindow = 128 << 10
	readWindow  = 8 << 20 // the largest
	windowGrows = 4       // times, when half of it was read
)

// Reader reads a range of what is open on a session. It is for one goroutine.
type Reader struct {
	Opened wire.Opened // what is read; set by OpenReader

	s      *Session
	ctx    context.Context
	off    int64 // of the next byte
	end    int64
	asked  bool       // the helper knows the range
	frame  wire.Frame // holds data
	data   []byte     // received and not yet read
	hole   int64      // zeros received and not yet read
	window int64
	roam   roam

	decoder compress.Decoder // holds data that was compressed

	unsaid int64 // bytes read that no Window frame has mentioned
	err    error // sticky until Move
	closed bool
}

// Read asks for n bytes at off of what is open. Close must follow.
func (s *Session) Read(ctx context.Context, off, n int64) (*Reader, error) {
	r := &Reader{s: s, ctx: ctx, off: off, end: off + n}
	return r, r.ask()
}

// ask asks for the range.
func (r *Reader) ask() error {
	r.asked, r.window, r.unsaid = true, firstWindow, 0
	r.roam.ask()
	return r.s.start(&wire.Read{Offset: r.off, Length: r.end - r.off, Window: r.window, Compress: r.s.compression()})
}

// Move goes on with another range, n bytes at off. What is left of the one
// before is cancelled when the next byte is read, without waiting for it.
func (r *Reader) Move(off, n int64) {
	r.roam.moved = r.off < r.end || len(r.data) > 0 || r.hole > 0
	r.frame.Release()
	r.data, r.hole, r.err = nil, 0, nil
	r.off, r.end, r.asked = off, off+n, false
}

// again cancels the range before and asks for the present one.
func (r *Reader) again() error {
	if r.s.running > 0 {
		if err := r.s.Write(&wire.Cancel{}); err != nil {
			return err
		}
	}
	if err := r.ask(); err != nil {
		return err
	}
	return r.s.drop(r.ctx, 1)
}

// Read reads the next bytes of the range.
func (r *Reader) Read(p []byte) (n int, err error) {
	if r.closed {
		return 0, io.ErrClosedPipe
	}
	r.roam.wait(r.ctx, len(p))
	for r.hole == 0 && len(r.data) == 0 && r.err == nil && len(p) > 0 {
		r.err = r.fill()
	}
	switch {
	case len(r.data) > 0:
		n = copy(p, r.data)
		r.data = r.data[n:]
	case r.hole > 0:
		n = int(min(int64(len(p)), r.hole))
		clear(p[:n])
		r.hole -= int64(n)
	default:
		return 0, r.err
	}
	r.roam.taken += int64(n)
	return n, nil
}

// fill takes the next frame.
func (r *Reader) fill() error {
	r.frame.Release()
	if err := r.widen(); err != nil {
		return err
	}
	f, err := r.s.Next(r.ctx, nil)
	if err == errDone && r.off == r.end {
		return io.EOF
	}
	if err == errDone {
		return fmt.Errorf("protocol error: reading ended at byte %d of %d", r.off, r.end)
	}
	if err != nil {
		return err
	}
	if f.Type == wire.TypeGaps {
		defer f.Release()
		return r.s.takeGaps(&f, block.Range{Offset: r.off, Length: r.end - r.off})
	}
	var at int64
	switch f.Type {
	case wire.TypeHole:
		var m wire.Hole
		err = f.Decode(&m)
		at, r.hole = m.Offset, m.Length
		f.Release()
	default:
		var m wire.Data
		if err = f.Decode(&m); err == nil {
			r.data, err = r.decoder.Decode(m.Encoding, m.Data, int(min(r.end-r.off, block.ExtentSize)))
		}
		if err == nil && len(r.data) == 0 {
			err = errors.New("protocol error: a frame of data without any")
		}
		at, r.frame = m.Offset, f
		r.unsaid += int64(len(r.data))
	}
	r.roam.answered()
	n := int64(len(r.data)) + r.hole
	if err == nil && (at != r.off || n > r.end-at) {
		err = fmt.Errorf("protocol error: %d bytes at %d where %d was expected", n, at, r.off)
	}
	r.off += n
	if err != nil {
		r.data, r.hole = nil, 0
	}
	return err
}

// widen makes sure that the range was asked for, and opens the window again when
// half of it was read.
func (r *Reader) widen() error {
	if !r.asked {
		return r.again()
	}
	if r.unsaid < r.window/2 {
		return nil
	}
	grown := min(r.window*windowGrows, readWindow)
	err := r.s.Write(&wire.Window{Bytes: r.unsaid + grown - r.window})
	r.window, r.unsaid = grown, 0
	return err
}

// Close ends the reading, also before the end of the range. The session can then
// be used for the next request.
func (r *Reader) Close() {
	r.frame.Release()
	r.data, r.hole, r.closed = nil, 0, true
	r.decoder.Release()
	r.s.settle()
}
