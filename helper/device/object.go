package device

import (
	"cmp"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// ReadAt reads len(p) bytes at off, or fewer and an error. Past Size it is
// io.EOF; a failing disk is an [*Error] of kind ErrIO with the exact offset.
func (o *Object) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, refuse(ErrRefused, "read", o.path, "negative offset %d", off)
	}
	if off >= o.size {
		return 0, io.EOF
	}
	var end error
	if int64(len(p)) > o.size-off {
		p, end = p[:o.size-off], io.EOF
	}
	n, err := o.readAt(p, off)
	if n == len(p) {
		return n, end
	}
	if errors.Is(err, io.EOF) {
		e := &Error{Op: "read", Path: o.path, Offset: off + int64(n), Kind: ErrIO, Err: io.ErrUnexpectedEOF}
		e.Text = "ends here: it was cut while it was being read"
		return n, e
	}
	return n, failSpan("read", o.path, off+int64(n), int64(len(p)-n), err)
}

// WriteAt writes all of p at off, or fewer bytes and an error. Nothing is
// written when p does not lie within Size.
func (o *Object) WriteAt(p []byte, off int64) (int, error) {
	if err := o.within("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	o.cache.beforeWrite(o.f, off, int64(len(p)))
	n, err := o.raw().WriteAt(p, off)
	o.touched() // afterwards: a sync at the same time may have missed it
	if err != nil {
		return n, o.full(failSpan("write", o.path, off+int64(n), int64(len(p)-n), err))
	}
	if late, err := o.cache.didWrite(o.f, off, int64(n)); err != nil {
		return n, o.lost(o.full(failSpan("write", o.path, late.from, late.to-late.from, err)))
	}
	return n, nil
}

// lost notes an error of what was written before, which the sync is not told again.
func (o *Object) lost(err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed = cmp.Or(o.failed, err)
	return err
}

// raw is the file, or where the system only takes whole sectors, the file behind
// a layer that completes them.
func (o *Object) raw() readWriterAt {
	if o.align == 0 {
		return o.f
	}
	return sectors{f: o.f, unit: o.align, mu: &o.mu}
}

// within refuses ranges outside the object and writing to one opened to read.
func (o *Object) within(op string, off, n int64) error {
	if !o.write {
		return refuse(ErrRefused, op, o.path, "was opened for reading only")
	}
	if off < 0 || n < 0 || off > o.size || n > o.size-off {
		return refuse(ErrRefused, op, o.path, "%d bytes at %d do not lie within its %d bytes", n, off, o.size)
	}
	return nil
}

// Data returns the next range within [off, end) that may hold data; start, stop
// and end are equal when only a hole is left. What lies between off and start
// reads as zero. Devices answer [off, end), but for thin volumes after FindHoles,
// and so do systems that cannot tell.
func (o *Object) Data(off, end int64) (start, stop int64, err error) {
	if off < 0 || end < off {
		return 0, 0, refuse(ErrRefused, "seek", o.path, "no range from %d to %d", off, end)
	}
	if o.info.Kind == Block {
		start, stop = o.deviceData(off, end)
		return start, stop, nil
	}
	return o.fileData(off, end, dataPiece)
}

// fileData is Data from what the file system knows.

// dataPiece is what is read at once, in bytes.
const dataPiece = 1 << 20

// fileData is Data for a file, where what is found counts as data up to the next
// multiple of piece. Where it really ends is not asked, since file systems look for
// that as far as it goes, and would do so for each range.
func (o *Object) fileData(off, end, piece int64) (start, stop int64, err error) {
	if off == end {
		return off, end, nil
	}
	start, err = nextData(o.f, off, end)
	if err != nil {
		return 0, 0, failAt("seek", o.path, off, err)
	}
	return min(start, end), min(start-start%piece+piece, end), nil
}

// Sync makes everything written so far durable. It costs nothing when that is
// so already: a sparse image has thousands of ranges in which nothing changes,
// and each sync empties the cache of a disk. A failure is sticky: the kernel
// reports it once and then forgets the lost pages.
func (o *Object) Sync() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed == nil && o.write && !o.synced.Swap(true) {
		late := o.cache.unsynced()
		at, n := late.from, late.to-late.from
		if n == 0 {
			at = -1 // nothing but zeros, which are not counted
		}
		o.failed = o.full(failSpan("sync", o.path, at, n, dataSync(o.f)))
		o.cache.didSync(o.f)
	}
	return o.failed
}

// Close releases the object. A new image that was neither committed nor aborted
// stays under its hidden name for the next run to go on from.
func (o *Object) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	if o.write && o.failed != nil {
		forgetFailed(o.f)
	}
	o.cache.end(o.f)
	o.direct.close()
	o.exact.close()
	o.back.close()
	o.clone.close()
	return fail("close", o.path, o.f.Close())
}

// isClosed reports whether Commit, Abort or Close came before.
func (o *Object) isClosed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed
}

// removeOpen removes the partial file while its lock is still held, where the
// system allows to remove open files.
func (o *Object) removeOpen() error {
	if closeBeforeRename {
		_ = o.Close()
	}
	err := os.Remove(o.path)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		// Makes durable, too, what a helper that was killed has renamed before.
		err = syncDir(filepath.Dir(o.path))
	}
	if errors.Is(err, os.ErrNotExist) { // the directory is gone with all names in it
		return nil
	}
	return fail("remove", o.path, err)
}
