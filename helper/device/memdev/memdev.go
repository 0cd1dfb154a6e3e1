// Package memdev is a block device in memory for tests of what reads and writes
// devices. It behaves as an Object of package device does, counts what is done
// to it, fails where it is told to, and can lose what was never synced.
//
// Only pages that were written take memory, so a device may be of any size.
package memdev

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// pageSize is the unit in bytes of memory and of what Data can tell apart.
const pageSize = 4 << 10

// Change is a range that was written or zeroed.
type Change struct {
	Off, N int64 // bytes
	Zeroed bool
}

// Counts sums up calls, failed ones too, and bytes that were done.
type Counts struct {
	Reads, Writes, Zeroes, Syncs         int
	BytesRead, BytesWritten, BytesZeroed int64
}

type page [pageSize]byte

// Device is a device in memory. Its methods may be called from several
// goroutines at once.
type Device struct {
	size int64 // bytes

	mu      sync.Mutex // guards all below
	pages   map[int64]*page
	durable map[int64]*page // what each page was at the last Sync, for those changed since
	log     []Change
	counts  Counts
	faults  []*Fault
	delay   time.Duration
}

// New makes a device of size bytes, all of it a hole.
func New(size int64) *Device {
	return &Device{size: size, pages: map[int64]*page{}, durable: map[int64]*page{}}
}

// FromBytes makes a device with this content, synced. Zero pages are holes.
func FromBytes(b []byte) *Device {
	d := New(int64(len(b)))
	for at := 0; at < len(b); at += pageSize {
		p := new(page)
		copy(p[:], b[at:])
		if *p != (page{}) {
			d.pages[int64(at/pageSize)] = p
		}
	}
	return d
}

// Size is the size in bytes.
func (d *Device) Size() int64 { return d.size }

// ReadAt is io.ReaderAt; past the end it is io.EOF.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wait()
	if off < 0 || off > d.size {
		return 0, fmt.Errorf("memdev: read at %d of %d bytes: %w", off, d.size, io.EOF)
	}
	var end error
	if int64(len(p)) > d.size-off {
		p, end = p[:d.size-off], io.EOF
	}
	d.counts.Reads++
	n, err := d.strike(Read, off, int64(len(p)))
	each(off, n, func(i, from, to, at int64) {
		if pg := d.pages[i]; pg != nil {
			copy(p[at:], pg[from:to])
		} else {
			clear(p[at:][:to-from])
		}
	})
	d.counts.BytesRead += n
	if err == nil {
		err = end
	}
	return int(n), err
}

// WriteAt is io.WriterAt; outside of the device it writes nothing.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wait()
	if err := d.within(off, int64(len(p))); err != nil {
		return 0, err
	}
	d.counts.Writes++
	n, err := d.strike(Write, off, int64(len(p)))
	each(off, n, func(i, from, to, at int64) { copy(d.change(i)[from:to], p[at:]) })
	d.flip(off, n)
	d.counts.BytesWritten += n
	d.log = append(d.log, Change{Off: off, N: n})
	return int(n), err
}

// Zero makes n bytes at off read as zeros; whole pages become holes.
func (d *Device) Zero(off, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wait()
	if err := d.within(off, n); err != nil {
		return err
	}
	d.counts.Zeroes++
	n, err := d.strike(Zero, off, n)
	each(off, n, func(i, from, to, _ int64) {
		if d.pages[i] == nil {
			return
		}
		pg := d.change(i)
		clear(pg[from:to])
		if *pg == (page{}) {
			delete(d.pages, i)
		}
	})
	d.counts.BytesZeroed += n
	d.log = append(d.log, Change{Off: off, N: n, Zeroed: true})
	return err
}

// Data returns the next range within [off, end) that has pages.
func (d *Device) Data(off, end int64) (start, stop int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off < 0 || end < off {
		return 0, 0, fmt.Errorf("memdev: no range from %d to %d", off, end)
	}
	last := (end + pageSize - 1) / pageSize
	next := d.next(off/pageSize, last)
	if next == last {
		return end, end, nil
	}
	after := next
	for after < last && d.pages[after] != nil {
		after++
	}
	return max(off, next*pageSize), min(end, after*pageSize), nil
}

// next is the first page in [first, last) that exists, or last. A range larger
// than the content is searched by the pages there are.
func (d *Device) next(first, last int64) int64 {
	if last-first <= int64(len(d.pages)) {
		for first < last && d.pages[first] == nil {
			first++
		}
		return first
	}
	for i := range d.pages {
		if i >= first && i < last {
			last = i
		}
	}
	return last
}

// Sync makes what was written survive Crash.
func (d *Device) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wait()
	d.counts.Syncs++
	if _, err := d.strike(Sync, 0, d.size); err != nil {
		return err
	}
	clear(d.durable)
	return nil
}

// Crash takes back what was not synced, as a power failure may.
func (d *Device) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, old := range d.durable {
		if old == nil {
			delete(d.pages, i)
		} else {
			d.pages[i] = old
		}
	}
	clear(d.durable)
}

// Bytes is a copy of the content, taken without faults or counting.
func (d *Device) Bytes() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := make([]byte, d.size)
	for i, pg := range d.pages {
		copy(b[i*pageSize:], pg[:])
	}
	return b
}

// Log is what was written and zeroed so far, in order, as far as calls got.
func (d *Device) Log() []Change {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Change(nil), d.log...)
}

// Counts is what was done so far.
func (d *Device) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

var errOutside = errors.New("outside of the device")

func (d *Device) within(off, n int64) error {
	if off < 0 || n < 0 || off > d.size || n > d.size-off {
		return fmt.Errorf("memdev: %d bytes at %d of %d: %w", n, off, d.size, errOutside)
	}
	return nil
}

// each calls fn for the part [from, to) of every page i in [off, off+n); at is
// where that part starts, counted from off.
func each(off, n int64, fn func(i, from, to, at int64)) {
	for at := int64(0); at < n; {
		from := (off + at) % pageSize
		to := min(pageSize, from+n-at)
		fn((off+at)/pageSize, from, to, at)
		at += to - from
	}
}

// change returns page i for writing, and keeps what it was at the last Sync.
func (d *Device) change(i int64) *page {
	old := d.pages[i]
	if _, kept := d.durable[i]; !kept {
		d.durable[i] = old
	} else if old != nil {
		return old
	}
	pg := new(page)
	if old != nil {
		*pg = *old
	}
	d.pages[i] = pg
	return pg
}
