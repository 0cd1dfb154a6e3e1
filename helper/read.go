package helper

import (
	"cmp"
	"context"
	"io"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

const readChunk = 256 << 10 // bytes read at once for Read and Hash

// readHolesFrom is the number of bytes from which on it pays to look for holes before reading. It is large, since clients
// open an object for each part of it that they read, and each would look again.
const readHolesFrom = 1 << 30

// rangeReader is one running Read.
type rangeReader struct {
	o      *device.Object
	r      *request
	credit int64     // bytes of data that may be sent
	hole   wire.Hole // zeros found and not yet sent
	data   wire.Data // reused
	gaps   wire.Gaps // reused

	squeeze *compress.Encoder
}

// readRange sends a range in order, zeros as holes.
func (s *session) readRange(r *request) error {
	var m wire.Read
	if err := r.frame.Decode(&m); err != nil {
		return err
	}
	o, err := s.openedRange(false, m.Offset, m.Length)
	if err != nil {
		return err
	}
	if m.Length >= readHolesFrom {
		if err := s.findHoles(r, o, m.Offset, m.Length); err != nil {
			return err
		}
	}
	rr := &rangeReader{o: o, r: r, credit: m.Window, squeeze: s.squeeze.Begin(m.Compress)}
	buf := make([]byte, min(readChunk, m.Length))
	read := func(b []byte, off int64) error { return readChunkOf(o, b, off) }
	if s.salvage != nil {
		read = func(b []byte, off int64) error { return rr.salvage(s.salvage, b, off) }
	}
	if err := eachChunk(r.ctx, s.source(), m.Offset, m.Offset+m.Length, func() []byte { return buf }, read, rr.chunk); err != nil {
		return err
	}
	return rr.flush()
}

// readChunkOf reads all of b at off.
func readChunkOf(o *device.Object, b []byte, off int64) error {
	if n, err := o.ReadAt(b, off); n < len(b) {
		return cmp.Or(err, io.ErrUnexpectedEOF)
	}
	return nil
}

// salvage reads b at off, and tells what of it cannot be read.
func (rr *rangeReader) salvage(v *delta.Salvage, b []byte, off int64) (err error) {
	if rr.gaps.List, err = v.Fill(b, off, rr.gaps.List[:0]); err != nil || len(rr.gaps.List) == 0 {
		return err
	}
	return rr.r.Write(&rr.gaps)
}

// eachChunk calls fn for the bytes [off, end) of src in order, with the content of
// chunks that are read into what buf returns, or with nil for n bytes that are a
// hole.
func eachChunk(ctx context.Context, src delta.Source, off, end int64, buf func() []byte,
	read func(b []byte, off int64) error, fn func(off, n int64, data []byte) error) error {
	for off < end {
		start, stop, err := src.Data(off, end)
		if err != nil {
			return err
		}
		if start > off {
			if err := fn(off, start-off, nil); err != nil {
				return err
			}
		}
		for off = start; off < stop; {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			b := buf()
			b = b[:min(int64(len(b)), stop-off)]
			if err := read(b, off); err != nil {
				return err
			}
			if err := fn(off, int64(len(b)), b); err != nil {
				return err
			}
			off += int64(len(b))
		}
	}
	return nil
}

// chunk sends a chunk: its runs of zero blocks as holes, the others as data.
func (rr *rangeReader) chunk(off, n int64, data []byte) error {
	if data == nil {
		return rr.zeros(off, n)
	}
	for len(data) > 0 {
		n, zero := run(data)
		var err error
		if zero {
			err = rr.zeros(off, int64(n))
		} else {
			err = rr.bytes(off, data[:n])
		}
		if err != nil {
			return err
		}
		off, data = off+int64(n), data[n:]
	}
	return nil
}

// run returns the length of the first run of blocks of b that are all zero, or
// all not.
func run(b []byte) (n int, zero bool) {
	for n < len(b) {
		end := min(n+block.DefaultSize, len(b))
		z := block.IsZero(b[n:end])
		if n > 0 && z != zero {
			return n, zero
		}
		n, zero = end, z
	}
	return n, zero
}

// zeros joins n zeros at off to the hole before them.
func (rr *rangeReader) zeros(off, n int64) error {
	if rr.hole.Length == 0 {
		rr.hole.Offset = off
	}
	rr.hole.Length += n
	return nil
}

// bytes sends b, no more at once than there is credit for.
func (rr *rangeReader) bytes(off int64, b []byte) error {
	if err := rr.flush(); err != nil {
		return err
	}
	for len(b) > 0 {
		if err := rr.await(); err != nil {
			return err
		}
		n := min(int64(len(b)), rr.credit)
		rr.data.Offset = off
		rr.data.Encoding, rr.data.Data = rr.squeeze.Encode(b[:n])
		start := time.Now()
		if err := rr.r.Write(&rr.data); err != nil {
			return err
		}
		rr.squeeze.Wrote(len(rr.data.Data), time.Since(start))
		off, b, rr.credit = off+n, b[n:], rr.credit-n
	}
	return nil
}

// flush sends the hole that was found.
func (rr *rangeReader) flush() error {
	if rr.hole.Length == 0 {
		return nil
	}
	err := rr.r.Write(&rr.hole)
	rr.hole.Length = 0
	return err
}

// await returns when there is credit.
func (rr *rangeReader) await() error {
	for rr.credit <= 0 {
		f, err := rr.r.Next(rr.r.ctx, nil)
		if err != nil {
			return err
		}
		var m wire.Window
		err = f.Decode(&m)
		f.Release()
		if err != nil {
			return err
		}
		rr.credit += m.Bytes
	}
	return nil
}
