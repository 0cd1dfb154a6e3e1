package delta

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// RebuildWindow is the window for a Receive into a Rebuilder, in extents. The
// Rebuilder keeps the data of that many in memory.
const RebuildWindow = 16

// Rebuilder is a Target that keeps nothing: who reads it gets the content of the
// source, of which only what differs from a reference crosses the link. What it
// gives was compared with the digests of the source in memory, so a reference
// that is written to meanwhile costs bytes on the link, or an error when it is
// cut, but never gives a wrong byte.
type Rebuilder struct {
	ctx  context.Context
	ref  Source
	size int64 // bytes of ref; beyond them the source is compared with zeros
	r    block.Range
	out  chan piece // in order; closed by End

	mu   sync.Mutex
	held map[int64]*[]byte // extents read and not yet settled, by offset; hold mu
	err  error             // valid when out is closed

	now piece // owned by Read
}

// piece is an extent on its way to the reader.
type piece struct {
	buf  *[]byte // nil for zeros
	rest int     // bytes at the end of the extent that were not read
	n    int     // length of the extent
}

// NewRebuilder makes the Target of a Receive of r, which must end with a call of
// End. ref has size bytes. When ctx ends, so does the Receive.
func NewRebuilder(ctx context.Context, ref Source, size int64, r block.Range) *Rebuilder {
	return &Rebuilder{ctx: ctx, ref: ref, size: size, r: r, out: make(chan piece, 1), held: map[int64]*[]byte{}}
}

// End tells the reader how the Receive ended: nil for all is there.
func (b *Rebuilder) End(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		err = io.EOF
	}
	b.err = err
	close(b.out)
}

// Read gives the next bytes of the range. It waits for the Receive, and the
// Receive for it.
func (b *Rebuilder) Read(p []byte) (int, error) {
	for b.now.rest == 0 {
		if len(p) == 0 {
			return 0, nil
		}
		if b.now.buf != nil {
			block.PutBuffer(b.now.buf)
		}
		var ok bool
		if b.now, ok = <-b.out; !ok {
			b.mu.Lock()
			defer b.mu.Unlock()
			return 0, b.err
		}
	}
	n := min(len(p), b.now.rest)
	if b.now.buf == nil {
		clear(p[:n])
	} else {
		copy(p[:n], (*b.now.buf)[b.now.n-b.now.rest:])
	}
	b.now.rest -= n
	return n, nil
}

// Data is that of the reference, and nothing behind its end.
func (b *Rebuilder) Data(off, end int64) (start, stop int64, err error) {
	last := min(end, b.size)
	if off >= last {
		return end, end, nil
	}
	start, stop, err = b.ref.Data(off, last)
	if err != nil {
		return 0, 0, fmt.Errorf("the reference: %w", err)
	}
	if start == last {
		return end, end, nil
	}
	return start, stop, nil
}

// ReadAt reads an extent of the reference and keeps it.
func (b *Rebuilder) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(max(b.size-off, 0), int64(len(p))))
	if err := readFull(b.ref, p[:n], off); err != nil {
		return 0, fmt.Errorf("the reference: %w", err)
	}
	clear(p[n:])
	buf := block.GetBuffer()
	copy(*buf, p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[off] = buf
	return len(p), nil
}

// at returns the memory of what is to be changed at off, within one extent.
func (b *Rebuilder) at(off int64) []byte {
	start := off - (off-b.r.Offset)%block.ExtentSize
	b.mu.Lock()
	defer b.mu.Unlock()
	buf := b.held[start]
	if buf == nil { // a hole of the reference
		buf = block.GetBuffer()
		clear(*buf)
		b.held[start] = buf
	}
	return (*buf)[off-start:]
}

// WriteAt patches an extent in memory.
func (b *Rebuilder) WriteAt(p []byte, off int64) (int, error) { return copy(b.at(off), p), nil }

// Zero patches an extent in memory.
func (b *Rebuilder) Zero(off, n int64) error {
	clear(b.at(off)[:n])
	return nil
}

// Settled hands an extent to the reader.
func (b *Rebuilder) Settled(off int64, n int) error {
	b.mu.Lock()
	p := piece{buf: b.held[off], rest: n, n: n}
	delete(b.held, off)
	b.mu.Unlock()
	select {
	case b.out <- p:
		return nil
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	}
}

// Sync has nothing to do.
func (b *Rebuilder) Sync() error { return nil }

var (
	_ Target  = (*Rebuilder)(nil)
	_ Settler = (*Rebuilder)(nil)
)
