package device

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"unsafe"
)

// Direct says whether a device is read past the page cache.
type Direct uint8

// DirectAuto is for devices that do not seek and that nobody else writes to;
// what of them was in the cache is still read there. DirectOn includes the others.
const (
	DirectOff Direct = iota
	DirectAuto
	DirectOn
)

// directUnit is what the place in memory, the offset and the length of a direct
// read must be multiples of, in bytes: the largest sector there is.
const directUnit = 4096

// direct is a device opened once more, for reading past the page cache.
type direct struct {
	f    *os.File    // nil where everything goes through the cache
	fail atomic.Bool // the system refuses such reads
}

// ReadPast has reads go past the page cache where mode asks for it and the
// system can: that spares a copy, and pages that would have to be found and
// dropped again. Files always go through the cache, which reads ahead. It must
// not be called at the same time as other methods.
func (o *Object) ReadPast(mode Direct) {
	switch {
	case mode == DirectOff, o.info.Kind != Block:
	case mode == DirectAuto && (o.info.Rotational || o.torn || o.forced):
	default:
		o.direct.f = openDirect(o.f)
	}
}

// readAt reads all of p, or fewer bytes and an error.
func (o *Object) readAt(p []byte, off int64) (int, error) {
	o.cache.beforeRead(o.f, off, int64(len(p)))
	if len(p) <= directUnit && o.exact.used.Load() { // each attempt takes a dying disk seconds
		if n, err, ok := o.readExact(p, off, 0); ok {
			return n, err
		}
	}
	if o.direct.f != nil && !o.direct.fail.Load() && aligned(p, off) && !o.cache.holds(off, int64(len(p))) {
		n, err := o.direct.f.ReadAt(p, off)
		if n == len(p) {
			return n, nil
		}
		// The cache and readExact tell a bad sector exactly.
		if isInvalid(err) {
			o.direct.fail.Store(true)
		}
	}
	n, err := o.raw().ReadAt(p, off)
	o.cache.didRead(o.f, off, int64(n))
	if n < len(p) && kindOf(err) == ErrIO && !errors.Is(err, io.EOF) {
		if more, exactly, ok := o.readExact(p, off, n); ok {
			return more, exactly
		}
	}
	return n, err
}

func aligned(p []byte, off int64) bool {
	return (uintptr(unsafe.Pointer(unsafe.SliceData(p)))|uintptr(off)|uintptr(len(p)))%directUnit == 0
}

// close ends reading past the cache.
func (d *direct) close() {
	if d.f != nil {
		_ = d.f.Close() // it was only read
	}
}
