package blockdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/backend/receipt"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// chunkSize is the range, in bytes, that rclone reads from the source at once. It
// is a whole number of extents; an object store needs some time for the first
// byte of each.
const chunkSize = 64 << 20

func chunksOption() fs.Option {
	return fs.Option{
		Name: "multithread_upload",
		Help: `Read large sources in several ranges at once when writing to an object.

By default a source of another remote arrives as one stream. With this, sources
larger than --multi-thread-cutoff are read and compared in ranges of 64 MiB, as
many at once as the option streams says: a restore from an object store is then
not limited by one connection. Local files are always read in parallel.`,
		Default:  false,
		Advanced: true,
	}
}

// errAborted is for a source that failed, of which rclone does not say why.
var errAborted = errors.New("the source could not be read")

// errDirect makes rclone copy a local file by Update. It is told so by the error
// for sources that cannot be read in ranges.
type errDirect struct{}

func (errDirect) Error() string {
	return "(not an error: a file of this machine is read directly, in parallel, whatever follows)"
}

func (errDirect) Is(target error) bool { return target == fs.ErrorRangeIgnored }

// OpenChunkWriter opens the object at remote for chunks of src, which rclone
// writes in any order and several at once. Each is compared in place, in a
// session of its own.
func (f *Fs) OpenChunkWriter(ctx context.Context, remote string, src fs.ObjectInfo, options ...fs.OpenOption) (fs.ChunkWriterInfo, fs.ChunkWriter, error) {
	if localFile(ctx, src) != nil {
		return fs.ChunkWriterInfo{}, nil, errDirect{}
	}
	report := &report{start: time.Now()}
	o, err := f.toWrite(ctx, remote)
	if err != nil {
		return fs.ChunkWriterInfo{}, nil, err
	}
	t, err := o.openTarget(ctx, src.Size())
	if err != nil {
		return fs.ChunkWriterInfo{}, nil, classify(err)
	}
	if err := t.announce(ctx, nil); err != nil {
		t.abort(nil)
		return fs.ChunkWriterInfo{}, nil, classify(err)
	}
	if err := t.pin(); err != nil {
		t.abort(nil)
		return fs.ChunkWriterInfo{}, nil, once(ctx, err)
	}
	end := func() receipt.End { return streamEnd(src) }
	if err := t.keepReceipt(ctx, end, src.Size(), block.DefaultSize, report.start); err != nil {
		t.abort(nil)
		return fs.ChunkWriterInfo{}, nil, err
	}
	streams := t.streams(false)
	w := &chunkWriter{t: t, src: src, report: report, free: make(chan *lease, streams), room: streams - 1, stop: t.interruptible()}
	w.free <- t.lead
	w.sharing.begin(streams)
	return fs.ChunkWriterInfo{ChunkSize: chunkSize, Concurrency: streams}, w, nil
}

// toWrite is the object at remote, which need not exist. rclone does not say what it
// has found there, so it is looked at: what becomes another kind is then refused.
func (f *Fs) toWrite(ctx context.Context, remote string) (*Object, error) {
	at, err := f.place(remote)
	if err != nil {
		return nil, err
	}
	entry, err := f.stat(ctx, at)
	switch {
	case errors.Is(err, wire.CodeNotFound), at.host == nil, entry.Kind == wire.KindDir:
		entry = wire.Entry{} // openTarget says what is wrong
	case err != nil:
		return nil, err
	}
	return f.newObject(remote, entry), nil
}

// chunkWriter writes the chunks of one object.
type chunkWriter struct {
	t      *target
	src    fs.ObjectInfo
	report *report
	stop   func()      // of interruptible
	free   chan *lease // those that no chunk uses

	sharing sharing

	mu    sync.Mutex
	room  int   // sessions that may be opened yet; hold mu
	more  int   // sessions opened beside the lead; hold mu
	err   error // the first of a chunk; hold mu
	ended bool  // closed or aborted; hold mu
}

// WriteChunk brings chunk number n to the content of reader.
func (w *chunkWriter) WriteChunk(ctx context.Context, n int, reader io.ReadSeeker) (int64, error) {
	off := int64(n) * chunkSize
	length := min(chunkSize, w.src.Size()-off)
	if n < 0 || length <= 0 {
		return 0, fmt.Errorf("%s: there is no chunk %d", w.t.o.remote, n)
	}
	fits := min(length, w.t.lead.opened.Size-off)
	if fits <= 0 { // --ignore-size, and a smaller target
		return length, nil
	}
	l, err := w.take(ctx)
	if err != nil {
		return 0, classify(err)
	}
	defer func() { w.free <- l }()
	r := block.Range{Offset: off, Length: fits, BlockSize: block.DefaultSize}
	w.sharing.tell(l)
	res, err := host.SendTo(ctx, shifted{delta.NewStream(reader, length), off}, l.s, r)
	if err != nil {
		w.fail(err)
		return 0, classify(err)
	}
	w.report.settle(r, res)
	return length, nil
}

// take returns a session for one chunk: a free one, else a further one, and when
// there is none to be had the first that gets free.
func (w *chunkWriter) take(ctx context.Context) (*lease, error) {
	select {
	case l := <-w.free:
		return l, nil
	default:
	}
	w.mu.Lock()
	further := w.room > 0
	if further {
		w.room--
	}
	w.mu.Unlock()
	if further {
		l, err := w.t.join(ctx)
		if err == nil {
			w.mu.Lock()
			w.more++
			w.mu.Unlock()
			return l, nil
		}
		w.sharing.end()
		fs.Debugf(w.t.o, "going on with fewer streams: %v", err)
	}
	select {
	case l := <-w.free:
		return l, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (w *chunkWriter) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// end ends the sessions beside the lead, and says whether that was still to be
// done. Chunks under way are waited for, for a while: they were cancelled.
func (w *chunkWriter) end() bool {
	w.mu.Lock()
	first, more := !w.ended, w.more
	w.ended = true
	w.mu.Unlock()
	if !first {
		return false
	}
	w.stop()
	late := time.After(abortTime)
	for range more + 1 {
		select {
		case l := <-w.free:
			if l != w.t.lead {
				w.report.wire.Add(l.close())
			}
		case <-late:
			return true
		}
	}
	w.report.wire.Add(w.t.lead.wire())
	return true
}

// Close completes the object.
func (w *chunkWriter) Close(ctx context.Context) error {
	if !w.end() {
		return nil
	}
	defer w.t.endReceipt()
	complete := func(ctx context.Context) error { return w.t.commit(ctx, w.src, w.report) }
	err := newResume(w.t.o).run(ctx, complete, w.reopen)
	if err != nil {
		w.t.abort(err)
	}
	return classify(err)
}

// reopen opens the target again, of which all is written.
func (w *chunkWriter) reopen(ctx context.Context) error {
	void, err := w.t.reopen(ctx, w.report)
	if err == nil && void {
		return fserrors.RetryError(errUnread)
	}
	return err
}

// Abort leaves what existed as it is now.
func (w *chunkWriter) Abort(ctx context.Context) error {
	if w.end() {
		defer w.t.endReceipt()
		w.mu.Lock()
		err := cmp.Or(w.err, errAborted)
		w.mu.Unlock()
		w.t.abort(err)
	}
	return nil
}

// shifted is a stream that begins at byte off of the device.
type shifted struct {
	*delta.Stream
	off int64
}

func (s shifted) ReadAt(p []byte, off int64) (int, error) { return s.Stream.ReadAt(p, off-s.off) }

var (
	_ fs.OpenChunkWriter = (*Fs)(nil)
	_ fs.ChunkWriter     = (*chunkWriter)(nil)
)
