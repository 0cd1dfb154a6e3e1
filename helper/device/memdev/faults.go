package memdev

import (
	"fmt"
	"time"
)

// Op is a kind of call that can fail.
type Op uint8

// The calls that can fail.
const (
	Read Op = iota
	Write
	Zero
	Sync
)

// Anywhere as the Off of a fault lets it strike at any offset.
const Anywhere = -1

// Fault makes a call fail, or a write go wrong unnoticed.
type Fault struct {
	Op    Op
	Off   int64 // byte that cannot be read, written or zeroed, or Anywhere
	After int   // calls that still succeed although they touch Off
	Times int   // how often it strikes, 0 for always
	Err   error // what the call returns; the bytes before Off are done

	// Flip inverts these bits of the byte at Off as it is written, and Err is
	// ignored: a medium that corrupts silently. Only for Write.
	Flip byte

	calls, strikes int
}

// Inject adds a fault.
func (d *Device) Inject(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, &f)
}

// Heal removes all faults and the delay.
func (d *Device) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults, d.delay = nil, 0
}

// SetDelay makes every call take this long.
func (d *Device) SetDelay(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = delay
}

// wait sleeps for the delay, without the lock so that calls overlap.
func (d *Device) wait() {
	if delay := d.delay; delay > 0 {
		d.mu.Unlock()
		time.Sleep(delay)
		d.mu.Lock()
	}
}

// strike returns how many of n bytes at off are done before a fault strikes,
// and its error.
func (d *Device) strike(op Op, off, n int64) (int64, error) {
	for _, f := range d.faults {
		if f.Op != op || f.Flip != 0 || !f.hits(off, n) || !f.due() {
			continue
		}
		done := int64(0)
		if f.Off != Anywhere {
			done = f.Off - off
		}
		return done, fmt.Errorf("memdev: fault at byte %d: %w", off+done, f.Err)
	}
	return n, nil
}

// flip corrupts what was just written.
func (d *Device) flip(off, n int64) {
	for _, f := range d.faults {
		if f.Flip != 0 && n > 0 && f.hits(off, n) && f.due() {
			at := max(f.Off, off)
			d.change(at / pageSize)[at%pageSize] ^= f.Flip
		}
	}
}

func (f *Fault) hits(off, n int64) bool {
	return f.Off == Anywhere || n > 0 && f.Off >= off && f.Off < off+n
}

// due counts a call that hits, and tells whether this one goes wrong.
func (f *Fault) due() bool {
	f.calls++
	if f.calls <= f.After || f.Times > 0 && f.strikes >= f.Times {
		return false
	}
	f.strikes++
	return true
}
