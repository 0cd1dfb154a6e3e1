package device

import (
	"runtime"
	"sync"
)

// ReadsBack reports whether this system can read what is on the medium, and not in
// its cache. Disks of FreeBSD have no cache in the kernel, its files do.
const ReadsBack = runtime.GOOS == "linux"

// readBack is a target opened once more, for reading from the medium what was
// written to it.
type readBack struct {
	once sync.Once
	direct
}

// ReadBack reads all of p at off from the medium, once what was written is
// durable: past the page cache where the system can, else after having the cache
// drop the range. What it drops is then read again by who used it.
func (o *Object) ReadBack(p []byte, off int64) error {
	if err := o.within("read back", off, int64(len(p))); err != nil {
		return err
	}
	o.back.once.Do(func() { o.back.f = openDirect(o.f) })
	whole := len(p) &^ (directUnit - 1)
	if head := p[:whole]; whole > 0 && o.back.f != nil && !o.back.fail.Load() && aligned(head, off) {
		n, err := o.back.f.ReadAt(head, off)
		switch {
		case n == whole:
			p, off = p[whole:], off+int64(whole)
		case isInvalid(err):
			o.back.fail.Store(true)
		default:
			return failAt("read", o.path, off+int64(n), err)
		}
	}
	if len(p) == 0 {
		return nil
	}
	// A piece of the cache goes as a whole, so more than the range is dropped.
	from := max(off-cacheFolio, 0) &^ (cacheFolio - 1)
	dropCached(o.f, from, off+int64(len(p))+cacheFolio-from)
	n, err := o.raw().ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	return failAt("read", o.path, off+int64(n), err)
}
