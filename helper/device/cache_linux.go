package device

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cached fills r with what of the region at off is in the page cache.
func cached(f *os.File, off int64, r *regionCache) error {
	err := cachedByStat(f, off, r)
	if errors.Is(err, unix.ENOSYS) {
		err = cachedByMap(f, off, r)
	}
	return err
}

// inMemory tells whether f is a file of tmpfs or ramfs: the page cache is all there is of
// it, so nothing can be dropped, and looking for it would take a tenth of the time of
// comparing it. To fstatfs the nodes of devices are on a tmpfs too.
func inMemory(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	var fs unix.Statfs_t
	err = withFD(f, func(fd uintptr) error { return unix.Fstatfs(int(fd), &fs) })
	magic := uint32(fs.Type)
	return err == nil && (magic == unix.TMPFS_MAGIC || magic == unix.RAMFS_MAGIC)
}

// keeps tells whether the n bytes at off were cached when they were first looked at, as far
// as is known, and all of them still are.
func (c *pageCache) keeps(f *os.File, off, n int64) bool {
	c.beforeRead(f, off, n)
	return c.holds(off, n) && (inMemory(f) || allCached(f, off, n))
}

// allCached tells whether the n bytes of f at off, a page's, are in the page cache.
func allCached(f *os.File, off, n int64) bool {
	page := int64(os.Getpagesize())
	pages, err := countCached(f, off, n)
	return err == nil && pages == uint64((n+page-1)/page)
}

// countCached counts the pages of n bytes of f that are in the page cache. Kernels before
// Linux 6.5 cannot.
func countCached(f *os.File, off, n int64) (pages uint64, err error) {
	var stat unix.Cachestat_t
	err = withFD(f, func(fd uintptr) error {
		return unix.Cachestat(uint(fd), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &stat, 0)
	})
	return stat.Cache, err
}

// cachedByStat counts pages: once when all of the region is cached, or nothing.
func cachedByStat(f *os.File, off int64, r *regionCache) error {
	pages, err := countCached(f, off, cacheRegion)
	if err != nil || pages == 0 {
		return err
	}
	if pages == uint64(cacheRegion/os.Getpagesize()) {
		for i := range r {
			r[i] = true
		}
		return nil
	}
	for i := range r {
		pages, err := countCached(f, off+int64(i)*cacheUnit, cacheUnit)
		if err != nil {
			return err
		}
		r[i] = pages > 0
	}
	return nil
}

// cachedByMap asks about a mapping of the region, which is never touched.
func cachedByMap(f *os.File, off int64, r *regionCache) error {
	return withFD(f, func(fd uintptr) error {
		m, err := unix.Mmap(int(fd), off, cacheRegion, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		defer unix.Munmap(m)
		page := os.Getpagesize()
		var pages [cacheUnit / 4096]byte
		for i := range r {
			if err := mincore(m[i*cacheUnit:][:cacheUnit], &pages); err != nil {
				return err
			}
			for _, p := range pages[:cacheUnit/page] {
				r[i] = r[i] || p&1 != 0
			}
		}
		return nil
	})
}

// mincore sets bit 0 for each page of m that is in the page cache.
func mincore(m []byte, pages *[cacheUnit / 4096]byte) error {
	_, _, no := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(pages)))
	if no != 0 {
		return no
	}
	return nil
}

// dropCached drops clean pages from the cache. It is a hint.
func dropCached(f *os.File, off, n int64) {
	_ = withFD(f, func(fd uintptr) error { return unix.Fadvise(int(fd), off, n, unix.FADV_DONTNEED) })
}

// startWriting has dirty pages written, and does not wait for it. It is a hint:
// errors come back from awaitWriting or the sync.
func startWriting(f *os.File, off, n int64) {
	_ = withFD(f, func(fd uintptr) error { return unix.SyncFileRange(int(fd), off, n, unix.SYNC_FILE_RANGE_WRITE) })
}

// awaitWriting waits until pages are written. Its error is for any page that was
// written since it or the sync was asked last, and is told once.
func awaitWriting(f *os.File, off, n int64) error {
	err := withFD(f, func(fd uintptr) error { return unix.SyncFileRange(int(fd), off, n, unix.SYNC_FILE_RANGE_WAIT_BEFORE) })
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return err
	}
	return nil // the system does not tell: the sync will
}
