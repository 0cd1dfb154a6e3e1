package host

import (
	"context"
	"fmt"
	"io"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// readWindow is how many bytes of data may be on their way to a Reader: more
// than an SSH channel holds, so that the network is the limit, and little enough
// that what a seek leaves behind is soon taken.
const readWindow = 8 << 20

// Reader reads a range of what is open on a session. It is for one goroutine.
type Reader struct {
	s      *Session
	ctx    context.Context
	off    int64 // of the next byte
	end    int64
	frame  wire.Frame // holds data
	data   []byte     // received and not yet read
	hole   int64      // zeros received and not yet read
	unsaid int64      // bytes read that no Window frame has mentioned
	err    error      // sticky
}

// Read asks for n bytes at off of what is open. Close must follow.
func (s *Session) Read(ctx context.Context, off, n int64) (*Reader, error) {
	r := &Reader{s: s, ctx: ctx, off: off, end: off + n}
	return r, s.start(&wire.Read{Offset: off, Length: n, Window: readWindow})
}

// Read reads the next bytes of the range.
func (r *Reader) Read(p []byte) (n int, err error) {
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
	return n, nil
}

// fill takes the next frame.
func (r *Reader) fill() error {
	r.frame.Release()
	if err := r.open(); err != nil {
		return err
	}
	f, err := r.s.Next(r.ctx)
	if err == errDone && r.off == r.end {
		return io.EOF
	}
	if err == errDone {
		return fmt.Errorf("protocol error: reading ended at byte %d of %d", r.off, r.end)
	}
	if err != nil {
		return err
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
		err = f.Decode(&m)
		at, r.data, r.frame = m.Offset, m.Data, f
		r.unsaid += int64(len(m.Data))
	}
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

// open widens the window when half of it was read.
func (r *Reader) open() error {
	if r.unsaid < readWindow/2 {
		return nil
	}
	err := r.s.Write(&wire.Window{Bytes: r.unsaid})
	r.unsaid = 0
	return err
}

// Close ends the reading, also before the end of the range. The session can then
// be used for the next request.
func (r *Reader) Close() {
	r.frame.Release()
	r.data, r.hole, r.err = nil, 0, io.ErrClosedPipe
	r.s.settle()
}
