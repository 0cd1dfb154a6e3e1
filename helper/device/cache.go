package device

import (
	"os"
	"sync"
)

// Bytes, all of them.
const (
	cacheUnit   = 1 << 20   // what is known to be cached or not
	cacheRegion = 256 << 20 // looked at in one go
	cacheNear   = 8 << 20   // how far from each other goroutines may read
	cacheAhead  = 64 << 20  // how far the kernel may have read ahead
	cacheFolio  = 2 << 20   // the largest piece of the cache, which goes as a whole
	flushEvery  = 8 << 20   // written before the disk is told to begin
	flushLag    = 2         // times that, which a disk may still be writing
)

// pageCache leaves the page cache of the host as it was: what was not in it when
// it was first looked at is dropped again, behind the readers, and after it was
// written and synced. What was in it stays. It also has the system write early,
// so that the sync at the end has little left to do.
//
// Where the system does not tell what is cached, or the cache is all there is, nothing
// is dropped.
type pageCache struct {
	mu      sync.Mutex
	regions map[int64]*regionCache // by number; hold mu
	blind   bool                   // nothing is asked, and all counts as cached; hold mu
	read    span                   // read and not dropped; hold mu
	written span                   // since the last sync; hold mu
	dirty   span                   // written since the disk was told; hold mu
	amount  int64                  // bytes written in dirty; hold mu
	begun   []span                 // what the disk was told to write and was not asked about; hold mu
}

// regionCache says which units of a region were cached, at least in part.
type regionCache [cacheRegion / cacheUnit]bool

// span is a range of bytes, empty when both are equal.
type span struct{ from, to int64 }

func (s span) join(off, n int64) span {
	if s.from == s.to {
		return span{off, off + n}
	}
	return span{min(s.from, off), max(s.to, off+n)}
}

// beforeRead looks at what is cached before the n bytes at off are read, and at the
// region behind, before the kernel reads ahead into it.
func (c *pageCache) beforeRead(f *os.File, off, n int64) {
	c.before(f, off/cacheRegion, (off+n)/cacheRegion+1)
}

// beforeWrite looks at what is cached before the n bytes at off are written.
func (c *pageCache) beforeWrite(f *os.File, off, n int64) {
	c.before(f, off/cacheRegion, (off+n)/cacheRegion)
}

// before looks at what is cached of the regions first to last.
func (c *pageCache) before(f *os.File, first, last int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.regions == nil {
		c.regions = map[int64]*regionCache{}
		c.blind = inMemory(f)
	}
	for i := first; i <= last && !c.blind; i++ {
		if c.regions[i] != nil {
			continue
		}
		r := new(regionCache)
		if err := cached(f, i*cacheRegion, r); err != nil {
			c.blind = true
			return
		}
		c.regions[i] = r
	}
}

// didRead drops what was read, but for the neighbourhood of the last bytes:
// another goroutine may not have read it yet.
func (c *pageCache) didRead(f *os.File, off, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off+n+cacheNear < c.read.from || off > c.read.to+cacheNear {
		c.dropRead(f)
	}
	c.read = c.read.join(off, n)
	if c.read.to-c.read.from >= 2*cacheNear {
		end := c.read.to - cacheNear
		c.drop(f, c.read.from-cacheFolio, end)
		c.read.from = end
	}
}

// didWrite has the disk begin to write, every few MiB, and asks what came of that
// before: a write that fails, or has no space, is then known soon, and not when all is
// written. The error is for some of the bytes that come with it.
func (c *pageCache) didWrite(f *os.File, off, n int64) (failed span, err error) {
	c.mu.Lock()
	c.written = c.written.join(off, n)
	c.dirty = c.dirty.join(off, n)
	c.amount += n
	now, done := c.dirty, span{}
	due := c.amount >= flushEvery
	if due {
		c.dirty, c.amount = span{}, 0
		c.begun = append(c.begun, now)
		if len(c.begun) > flushLag {
			done, c.begun = c.begun[0], append(c.begun[:0], c.begun[1:]...)
		}
	}
	c.mu.Unlock()
	if due { // without the lock: this waits when the disk has much to do
		startWriting(f, now.from, now.to-now.from)
	}
	if done.from < done.to {
		err = awaitWriting(f, done.from, done.to-done.from) // also of those that followed
	}
	return now.join(done.from, done.to-done.from), err
}

// didSync drops what was written, which is clean now, and all that was read: a
// range is complete.
func (c *pageCache) didSync(f *os.File) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(f, c.written.from-cacheFolio, c.written.to)
	c.dropRead(f)
	c.written, c.dirty, c.amount, c.begun = span{}, span{}, 0, nil
}

// unsynced is what was written since the last sync.
func (c *pageCache) unsynced() span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.written
}

// end drops what is left of reading.
func (c *pageCache) end(f *os.File) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropRead(f)
}

// dropRead drops all that was read, and ahead of it. Hold mu.
func (c *pageCache) dropRead(f *os.File) {
	if c.read.from < c.read.to {
		c.drop(f, c.read.from-cacheFolio, c.read.to+cacheAhead)
	}
	c.read = span{}
}

// drop drops the bytes [from, to) but for the units that were cached. Hold mu.
func (c *pageCache) drop(f *os.File, from, to int64) {
	from = max(from, 0)
	for !c.blind && from < to {
		unit := from / cacheUnit
		hot, stop := c.wasCached(unit), from
		for stop < to && c.wasCached(unit) == hot {
			unit++
			stop = min(unit*cacheUnit, to)
		}
		if !hot {
			dropCached(f, from, stop-from)
		}
		from = stop
	}
}

// holds tells whether any of the n bytes at off were cached, or may have been.
func (c *pageCache) holds(off, n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for unit := off / cacheUnit; unit <= (off+n-1)/cacheUnit; unit++ {
		if c.blind || c.wasCached(unit) {
			return true
		}
	}
	return false
}

// wasCached tells whether a unit was cached; one not looked at counts as such.
func (c *pageCache) wasCached(unit int64) bool {
	const units = cacheRegion / cacheUnit
	r := c.regions[unit/units]
	return r == nil || r[unit%units]
}

// forgetFailed drops all that is cached of a target to which a write has failed. Linux counts
// what could not be written as clean: the next copy would read it, find nothing to do, and
// its sync would say that all is on the disk.
func forgetFailed(f *os.File) {
	_ = dataSync(f) // what is on its way cannot be dropped
	dropCached(f, 0, 0)
}
