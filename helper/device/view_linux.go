package device

import (
	"fmt"
	"os"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// View calls use with the n bytes at off where they lie in the page cache, which
// spares copying them: half of what reading and hashing a cached image costs. They
// may change while use looks at them, when somebody writes to the file.
//
// It reports false when not all of them are there, when the object is no file, and
// when they got lost meanwhile: a file that is cut takes its pages along, and use
// is left by a panic. ReadAt tells then what is wrong.
func (o *Object) View(off int64, n int, use func(data []byte)) (seen bool) {
	page := int64(os.Getpagesize())
	if o.info.Kind != File || n == 0 || off%page != 0 || int64(n)%page != 0 || int64(n) > o.size-off {
		return false
	}
	m, err := mapCached(o.f, off, n)
	if err != nil || m == nil {
		return false
	}
	defer unix.Munmap(m)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if fault, ok := cause.(interface{ Addr() uintptr }); !ok || fault.Addr()-uintptr(unsafe.Pointer(&m[0])) >= uintptr(n) {
			panic("internal error: while looking at " + o.path + ": " + fmt.Sprint(cause))
		}
		seen = false
	}()
	use(m)
	return true
}

// mapCached maps bytes of f that are all in the page cache, nil when they are not:
// touching a page that is not there would read it without reading ahead, and take
// memory for a hole in a file system that lives there. Kernels before Linux 6.5 do
// not tell. cachestat counts pages whose reading has failed as well: touching one asks
// the disk once more, and is a fault when that fails. MAP_POPULATE must not be used: it
// tries such pages again without end. MADV_RANDOM leaves the pages as old as they are
// (vma_has_recency in the kernel's include/linux/mm_inline.h), so that looking at an
// image drives nothing out of the cache; moving pages that were written a while ago to
// the active list would take half as long again as mapping them.
func mapCached(f *os.File, off int64, n int) (m []byte, err error) {
	err = withFD(f, func(fd uintptr) error {
		var stat unix.Cachestat_t
		err := unix.Cachestat(uint(fd), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &stat, 0)
		if err != nil || stat.Cache != uint64(n/os.Getpagesize()) {
			return err
		}
		if m, err = unix.Mmap(int(fd), off, n, unix.PROT_READ, unix.MAP_SHARED); err != nil {
			return err
		}
		return unix.Madvise(m, unix.MADV_RANDOM)
	})
	if err != nil && m != nil {
		_ = unix.Munmap(m)
		m = nil
	}
	return m, err
}
