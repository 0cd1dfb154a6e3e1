// Package delta turns the content of a target into that of a source by moving
// only the blocks that differ. A Sender reads the source, a Receiver scans and
// writes the target; they talk in frames of package wire over a Link. The
// package knows neither devices nor transports: it imports neither os nor net.
//
// Both ends read and hash at once, from the first moment on. The stages, each
// working on whole extents:
//
//	receiver: scan (workers) -> announce (digests, in order) ...
//	sender:   scan (workers) -> settle (compare, in order) -> patch ...
//	receiver: apply (verify, write) -> sync -> root
//
// Memory is bounded: the sender holds the data of [Hold] extents, both ends the
// block digests of [mostRead] extents. A long way does not slow a transfer down:
// what the sender waits for an answer about, it forgets and reads again.
package delta

import (
	"context"
	"io"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Hold is the number of extents whose data a sender keeps in memory: being
// scanned, or waiting for the receiver to answer. Half of them at most wait for
// block digests, where the source can be read again.
const Hold = 8

// Window is the number of extents by which a receiver may run ahead. Of holes it is what
// a long way takes: they come faster than any answer.
const Window = 4096

// within is the window for range r, of which there is no more than it has extents.
func within(r block.Range, window int64) int64 { return max(min(window, r.Extents()), 1) }

// mostRead is how many extents of a window may be no holes: each takes memory for the
// digests of its blocks.
const mostRead = 256

// Link carries the frames of one transfer.
type Link interface {
	// Next returns the next frame from the other end; the caller releases it. It
	// returns when ctx ends, and an error when no more frames will come. Each time
	// before it waits for one it calls idle, if there is any.
	Next(ctx context.Context, idle func() error) (wire.Frame, error)
	// Write sends m and may keep nothing of it. Several goroutines may write. It
	// knows no context: who ends one must also make a pending Write return.
	Write(m wire.Message) error
	// Queue is Write of what may go with something later. Who queues must Write or
	// Flush before it waits for anything: the answer would never come.
	Queue(m wire.Message) error
	Flush() error
}

// Source is what a Sender reads. Its methods may be called concurrently.
type Source interface {
	io.ReaderAt
	// Data returns the first range [start, stop) within [off, end) that may hold
	// anything but zeros; start = stop = end when there is none.
	Data(off, end int64) (start, stop int64, err error)
}

// Viewer is a Source whose content may lie in memory already. View calls use with all of
// the n bytes at off, where they are or copied to room, part by part in order: each but the
// last is as long as room, which is whole blocks, or there is one. Or it reports false,
// perhaps in the middle of it: then they must be read. They may change under use, as what is
// read may change afterwards.
type Viewer interface {
	View(off int64, n int, room []byte, use func(part []byte)) bool
}

// Once is a Source that gives every byte only once. The data of an extent is kept
// until the receiver has applied it.
type Once interface {
	Once()
}

// Target is what a Receiver brings up to date.
type Target interface {
	Source
	io.WriterAt
	// Zero makes n bytes at off read as zeros.
	Zero(off, n int64) error
	// Sync makes all that was written durable.
	Sync() error
}

// Completer is a Source that knows only at its end whether it was whole. The
// sender asks before it declares the range finished.
type Completer interface {
	Complete() error
}

// Settler is a Target that is told, in order, which extents have the content of
// the source.
type Settler interface {
	Settled(off int64, n int) error // bytes
}

// GapKeeper is a Target that is told where it keeps what it has, since the source could
// not be read: the root of the range takes that for zeros.
type GapKeeper interface {
	KeptGaps(gaps []wire.Gap) // those of one extent; may come again with more
}
