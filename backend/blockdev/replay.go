package blockdev

import (
	"context"
	"io"
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
)

// replay cuts a source that can be read only once into pieces, and keeps each until
// the target has it, so that it can be sent again.
type replay struct {
	in     *delta.Stream
	length int64         // bytes to be sent
	unit   int           // block size in bytes
	turn   chan struct{} // holds a token while no piece is being read

	mu    sync.Mutex
	off   int64    // where the next piece begins; hold mu
	ended bool     // the last piece was given out; hold mu
	begun bool     // a piece was finished; hold mu
	back  []*piece // to be sent again; hold mu
	free  [][]byte // memory of pieces; hold mu
}

// newReplay sends length bytes of the size that in should give, in blocks of unit bytes.
func newReplay(in io.Reader, size, length int64, unit int) *replay {
	r := &replay{in: delta.NewStream(in, size), length: length, unit: unit, turn: make(chan struct{}, 1)}
	r.turn <- struct{}{}
	return r
}

// next gives the next piece, or nil when there is none. It waits until the piece
// before was read.
func (r *replay) next(ctx context.Context) (*piece, error) {
	if x := r.again(); x != nil {
		return x, nil
	}
	select {
	case <-r.turn:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		r.turn <- struct{}{}
		return nil, nil
	}
	x := &piece{r: r, off: r.off, buf: r.memory(int(min(pieceSize, r.length-r.off)))}
	r.off += int64(len(x.buf))
	r.ended = r.off == r.length
	if len(x.buf) == 0 {
		r.turn <- struct{}{}
	}
	return x, nil
}

// again takes a piece that was given back, the first one first.
func (r *replay) again() *piece {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.back) == 0 {
		return nil
	}
	first := 0
	for i, x := range r.back {
		if x.off < r.back[first].off {
			first = i
		}
	}
	x := r.back[first]
	r.back = append(r.back[:first], r.back[first+1:]...)
	return x
}

// memory is that of a piece of n bytes. Hold mu.
func (r *replay) memory(n int) []byte {
	if last := len(r.free) - 1; last >= 0 && cap(r.free[last]) >= n {
		b := r.free[last]
		r.free = r.free[:last]
		return b[:n]
	}
	return make([]byte, n)
}

// giveBack has x sent again.
func (r *replay) giveBack(x *piece) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.back = append(r.back, x)
}

// finish forgets x, which the target has.
func (r *replay) finish(x *piece) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free = append(r.free, x.buf)
	x.buf, r.begun = nil, true
}

// sent tells whether some of the stream cannot be given again.
func (r *replay) sent() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.begun
}

// piece is a part of the stream as a source that can be read again. What of it has
// not come yet is read when it is asked for, in order.
type piece struct {
	r   *replay
	off int64 // on the device

	mu   sync.Mutex
	buf  []byte
	have int // bytes of buf that were read; hold mu
}

// span is the range that x is of.
func (x *piece) span() block.Range {
	return block.Range{Offset: x.off, Length: int64(len(x.buf)), BlockSize: x.r.unit}
}

// Data says that everything may be data: a stream has no map.
func (x *piece) Data(off, end int64) (start, stop int64, err error) { return off, end, nil }

// ReadAt reads what is asked for, which lies within the piece.
func (x *piece) ReadAt(p []byte, off int64) (int, error) {
	at := int(off - x.off)
	if err := x.fill(at + len(p)); err != nil {
		return 0, err
	}
	return copy(p, x.buf[at:]), nil
}

// fill reads on until there are n bytes. The one that reads the last of the piece
// gives the turn to the next.
func (x *piece) fill(n int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.have < n {
		step := min(block.ExtentSize, len(x.buf)-x.have)
		if _, err := x.r.in.ReadAt(x.buf[x.have:x.have+step], x.off+int64(x.have)); err != nil {
			return err
		}
		if x.have += step; x.have == len(x.buf) {
			x.r.turn <- struct{}{}
		}
	}
	return nil
}

// Complete refuses a stream that goes on after its size.
func (x *piece) Complete() error {
	if x.off+int64(len(x.buf)) < x.r.length {
		return nil
	}
	return x.r.in.Complete()
}
