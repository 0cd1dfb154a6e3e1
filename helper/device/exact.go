package device

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"
)

// exact finds the very page that cannot be read. The cache may hold large pieces that
// fail as a whole, so pages are read one by one past it, also of what is otherwise
// read through it.
type exact struct {
	once sync.Once
	f    *os.File    // nil where the system cannot
	used atomic.Bool // something could not be read
}

// open opens what f has, past the cache.
func (x *exact) open(f *os.File) *os.File {
	x.once.Do(func() { x.f = openDirect(f) })
	return x.f
}

func (x *exact) close() {
	x.once.Do(func() {})
	if x.f != nil {
		_ = x.f.Close() // it was only read
	}
}

// readExact goes on at byte n of p, where reading has failed with err, up to the first
// page that cannot be read. It is false where the system has no way to do so.
func (o *Object) readExact(p []byte, off int64, n int) (_ int, err error, ok bool) {
	f := o.exact.open(o.f)
	if f == nil {
		return n, nil, false
	}
	o.exact.used.Store(true)
	page := alignedPage()
	for n < len(p) {
		at := off + int64(n)
		skip := int(at % directUnit)
		got, err := f.ReadAt(page, at-int64(skip))
		switch {
		case got > skip:
			n += copy(p[n:], page[skip:got])
		case kindOf(err) != ErrIO, errors.Is(err, io.EOF), isInvalid(err):
			return n, nil, false
		default:
			return n, err, true
		}
	}
	return n, nil, true
}

// alignedPage is memory for a direct read of one page.
func alignedPage() []byte {
	b := make([]byte, 2*directUnit)
	return b[directUnit-uintptr(unsafe.Pointer(unsafe.SliceData(b)))%directUnit:][:directUnit]
}
