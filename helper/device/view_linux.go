package device

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"unsafe"

	"github.com/klauspost/cpuid/v2"
	"golang.org/x/sys/unix"
)

// mapping is whether cached pages are quicker hashed where they lie than copied.
var mapping = mapsQuicker(cpuid.CPU.VendorID, cpuid.CPU.Family)

// mapsQuicker is false for AMD's processors since Zen 5 (family 1Ah): they copy a MiB about
// as quickly as it is mapped, and hash what comes from the second cache in three quarters
// of the time that it takes from memory (BenchmarkView).
func mapsQuicker(maker cpuid.Vendor, family int) bool { return maker != cpuid.AMD || family < 0x1a }

// View calls use with the n bytes at off, which are in the page cache: where they lie, or
// where that is quicker, copied to room, as many as fit, one part after the other. It
// reports false when not all of them are there, or when not all of them could be seen:
// ReadAt tells then what is wrong. They may change while use looks at them, when somebody
// writes to the file.
func (o *Object) View(off int64, n int, room []byte, use func(part []byte)) (seen bool) {
	if mapping {
		return o.Mapped(off, n, use)
	}
	return o.copied(off, n, room, use)
}

// copied is View by copies. What was not there at first is left to ReadAt, which has the
// disk asked for more at once; so is what the kernel has read ahead since, and may drop again
// before what differs of it is read.
func (o *Object) copied(off int64, n int, room []byte, use func(part []byte)) (seen bool) {
	if o.info.Kind != File || n == 0 || int64(n) > o.size-off || !o.cache.keeps(o.f, off, int64(n)) {
		return false
	}
	for end := off + int64(n); off < end; off += int64(len(room)) {
		room = room[:min(int64(len(room)), end-off)]
		if _, err := o.ReadAt(room, off); err != nil {
			return false
		}
		use(room)
	}
	return true
}

// Mapped is View of whole pages where they lie, which spares copying them. They may change
// while use looks at them, when somebody writes to the file.
//
// It reports false when not all of them are there, when the object is no file, and
// when they got lost meanwhile: a file that is cut takes its pages along, and use
// is left by a panic. ReadAt tells then what is wrong.
func (o *Object) Mapped(off int64, n int, use func(data []byte)) (seen bool) {
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
// memory for a hole in a file system that lives there.
func mapCached(f *os.File, off int64, n int) (m []byte, err error) {
	if !allCached(f, off, int64(n)) {
		return nil, nil
	}
	err = withFD(f, func(fd uintptr) error {
		m, err = unix.Mmap(int(fd), off, n, unix.PROT_READ, unix.MAP_SHARED)
		return err
	})
	if err == nil {
		if err = present(m); err != nil {
			_ = unix.Munmap(m)
			m = nil
		}
	}
	return m, err
}

// faultAround is how many bytes of a file the kernel maps when one of them is asked for
// (fault_around_bytes in its mm/memory.c).
const faultAround = 64 << 10

// present brings m into the page tables, and refuses it when a page is not there after all:
// cachestat counts pages that are being read, or whose reading has failed. Who came upon
// one would wait in a fault, and keep a processor of the Go runtime meanwhile.
//
// MADV_SEQUENTIAL leaves the pages as old as they are (vma_has_recency in the kernel's
// include/linux/mm_inline.h), and reading ahead as it is. Without it, what was written
// and is looked at for the first time would be moved to the active list, which takes half
// as long again as mapping it, and may drive out of the cache what is needed more.
func present(m []byte) error {
	if err := unix.Madvise(m, unix.MADV_SEQUENTIAL); err != nil {
		return err
	}
	page := os.Getpagesize()
	for at := 0; at < len(m) && populates(); at += faultAround { // a fault for each takes longer
		if err := unix.Madvise(m[at:][:page], unix.MADV_POPULATE_READ); err != nil {
			return err
		}
	}
	var pages [cacheUnit / 4096]byte
	for at := 0; at < len(m); at += cacheUnit {
		part := m[at:min(at+cacheUnit, len(m))]
		if err := mincore(part, &pages); err != nil {
			return err
		}
		if slices.ContainsFunc(pages[:len(part)/page], func(p byte) bool { return p&1 == 0 }) {
			return unix.EIO
		}
	}
	return nil
}

// populates tells whether MADV_POPULATE_READ ends on a page whose reading fails. Until
// "mm/madvise: make MADV_POPULATE_(READ|WRITE) handle VM_FAULT_RETRY properly", of spring
// 2024, it asked the disk again without end, as MAP_POPULATE does to this day.
var populates = sync.OnceValue(func() bool {
	var u unix.Utsname
	var major, minor int
	if unix.Uname(&u) != nil {
		return false
	}
	_, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return err == nil && (major > 6 || major == 6 && minor >= 10)
})
