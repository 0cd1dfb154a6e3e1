package device

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/klauspost/cpuid/v2"
	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// openCached opens a file of size bytes, written just now, so that it is cached. Where the kernel does not tell, before
// Linux 6.5, nothing can be seen, and told is false.
func openCached(t *testing.T, path string, size int) (o *Object, content []byte, told bool) {
	t.Helper()
	content = make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(content)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := OpenRead(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	told = !errors.Is(cachedByStat(o.f, 0, new(regionCache)), unix.ENOSYS)
	if seen := o.Mapped(0, size/4096*4096, func([]byte) {}); seen != told {
		t.Fatalf("seen: %v, and the kernel tells what is cached: %v", seen, told)
	}
	return o, content, told
}

func TestView(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	_, content, told := openCached(t, path, 2*mib)
	if !told {
		return
	}
	if err := os.Truncate(path, 3*mib); err != nil {
		t.Fatal(err)
	}
	o, err := OpenRead(path)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	var got []byte
	look := func(data []byte) { got = bytes.Clone(data) }
	if !o.Mapped(mib, mib, look) || !bytes.Equal(got, content[mib:2*mib]) {
		t.Error("what is cached is not seen")
	}
	for name, at := range map[string][2]int64{
		"not whole pages": {0, 100}, "not at a page": {100, mib}, "nothing": {0, 0}, "beyond the end": {2 * mib, 2 * mib},
		"half of it not cached": {mib, 2 * mib},
	} {
		if o.Mapped(at[0], int(at[1]), look) {
			t.Errorf("%s: seen", name)
		}
	}
}

// A file that is cut loses its pages under the eyes of who looks: that is told, and ends nothing.
func TestView_Cut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	o, _, told := openCached(t, path, 2*mib)
	if !told {
		return
	}
	sum, looks := 0, 0
	look := func(data []byte) {
		looks++
		if err := os.Truncate(path, mib); err != nil {
			t.Fatal(err)
		}
		for _, b := range data {
			sum += int(b)
		}
	}
	if o.Mapped(mib, mib, look) {
		t.Error("seen, though it was cut")
	}
	if looks != 1 {
		t.Errorf("looked %d times", looks)
	}
	if _, err := o.ReadAt(make([]byte, mib), mib); !errors.Is(err, ErrIO) {
		t.Errorf("reading it afterwards: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a panic of who looks was taken for a lost page")
		}
	}()
	o.Mapped(0, mib, func([]byte) { panic("of who looks") })
}

// tmpfs is a directory of a file system in memory.
func tmpfs(t *testing.T) string {
	t.Helper()
	require.Need(t, require.Root, require.Mount)
	dir := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "tmpfs", dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	return dir
}

// Looking at a hole takes no memory in a file system that lives there.
func TestView_Hole(t *testing.T) {
	path := filepath.Join(tmpfs(t), "disk.img")
	o, _, _ := openCached(t, path, mib)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, mib); err != nil {
		t.Fatal(err)
	}
	if o.Mapped(0, mib, func(data []byte) { _ = bytes.Count(data, []byte{1}) }) {
		t.Error("a hole is seen")
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Blocks != 0 {
		t.Errorf("the hole has %d blocks now (%v)", st.Blocks, err)
	}
}

// ext4 is a directory of a new file system on a disk.
func ext4(t *testing.T, disk *harness.Device) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "mkfs.ext4", "-q", "-O", "^has_journal", disk.Path)
	run(t, "mount", disk.Path, dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	return dir
}

// A page whose reading has failed lies in the cache too: it is not seen, and nobody is caught by it.
func TestView_Failed(t *testing.T) {
	require.Need(t, require.Root, require.Mount)
	const size = 24 * mib
	disk := harness.Loop(t, 64*mib)
	path := filepath.Join(ext4(t, disk), "disk.img")
	o, content, told := openCached(t, path, size)
	if err := errors.Join(unix.Fsync(int(o.f.Fd())), unix.Fadvise(int(o.f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk.Backing, 16*mib); err != nil {
		t.Fatal(err)
	}
	// The rest of it is restored, or the file system cannot be unmounted without a word.
	t.Cleanup(func() { _ = os.Truncate(disk.Backing, 64*mib) })
	seen, failed, counted := 0, 0, 0
	for off := int64(0); off < size; off += mib {
		buf := make([]byte, mib)
		_, err := o.ReadAt(buf, off)
		var stat unix.Cachestat_t
		if unix.Cachestat(uint(o.f.Fd()), &unix.CachestatRange{Off: uint64(off), Len: mib}, &stat, 0) == nil && err != nil && stat.Cache == mib/uint64(os.Getpagesize()) {
			counted++
		}
		same := false
		viewed := o.Mapped(off, mib, func(data []byte) { same = bytes.Equal(data, content[off:off+mib]) })
		switch {
		case err != nil && viewed:
			t.Errorf("what cannot be read at %d is seen", off)
		case err != nil:
			failed++
		case viewed && same:
			seen++
		}
	}
	if failed == 0 || told && (seen == 0 || counted == 0) {
		t.Errorf("%d could not be read, of which the kernel counts %d as cached, and %d were seen", failed, counted, seen)
	}
}

// Looking leaves pages as old as they are: what was written and not read since does not become active.
func TestView_Age(t *testing.T) {
	const size = 8 * mib
	o, _, told := openCached(t, filepath.Join(tmpfs(t), "disk.img"), size)
	for off := int64(0); off < size && told; off += mib {
		touched := byte(0)
		if !o.Mapped(off, mib, func(data []byte) {
			for i := 0; i < mib; i += 4096 {
				touched |= data[i]
			}
		}) {
			t.Fatalf("what is cached at %d is not seen", off)
		}
	}
	if n := active(t, o.f, size); n > size/4096/4 {
		t.Errorf("%d pages are active", n)
	}
}

// active counts the active pages of a file that is cached, by what the kernel tells of each page of memory.
func active(t *testing.T, f *os.File, size int) (n int) {
	t.Helper()
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	if err := present(m); err != nil {
		t.Fatal(err)
	}
	word := func(path string, i uint64) uint64 {
		table, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer table.Close()
		var b [8]byte
		if _, err := table.ReadAt(b[:], int64(i*8)); err != nil {
			t.Fatal(err)
		}
		return binary.NativeEndian.Uint64(b[:])
	}
	touched := byte(0)
	for at := 0; at < size; at += 4096 {
		touched |= m[at]
		const number, isActive = 1<<55 - 1, 1 << 6
		page := word("/proc/self/pagemap", uint64(uintptr(unsafe.Pointer(&m[at])))/4096) & number
		n += int(word("/proc/kpageflags", page) & isActive >> 6)
	}
	return n
}

func TestMapsQuicker(t *testing.T) {
	for _, c := range []struct {
		maker  cpuid.Vendor
		family int
		want   bool
	}{{cpuid.Intel, 6, true}, {cpuid.Intel, 0x1a, true}, {cpuid.AMD, 0x19, true}, {cpuid.AMD, 0x1a, false}} {
		if got := mapsQuicker(c.maker, c.family); got != c.want {
			t.Errorf("%v, family %#x: %v", c.maker, c.family, got)
		}
	}
}

// Where copying is quicker, the same is seen part by part.
func TestView_Copied(t *testing.T) {
	const size, room = 3*mib + 5000, mib / 4
	defer func(was bool) { mapping = was }(mapping)
	for name, dir := range map[string]string{"in memory": tmpfs(t), "on a disk": t.TempDir()} {
		o, content, told := openCached(t, filepath.Join(dir, "disk.img"), size)
		for _, span := range []span{{0, mib}, {mib, 2 * mib}, {mib, size}, {2*mib + 4096, 2*mib + 4096 + room + 1}} {
			n := int(span.to - span.from)
			for _, mapping = range []bool{true, false} {
				var got []byte
				parts := 0
				seen := o.View(span.from, n, make([]byte, room), func(part []byte) { got, parts = append(got, part...), parts+1 })
				want, wantParts := told && n%4096 == 0, 1
				if !mapping {
					want, wantParts = told || inMemory(o.f), (n+room-1)/room
				}
				if seen != want || seen && (!bytes.Equal(got, content[span.from:span.to]) || parts != wantParts) {
					t.Errorf("%s, mapping is quicker: %v: %v: seen: %v, %d bytes in %d parts", name, mapping, span, seen, len(got), parts)
				}
			}
		}
		mapping = false
		if o.View(3*mib, mib, make([]byte, mib), func([]byte) {}) {
			t.Errorf("%s: seen beyond the end", name)
		}
	}
}

// What is not cached, or was not at first, is not seen by copies.
func TestView_CopiedUncached(t *testing.T) {
	defer func(was bool) { mapping = was }(mapping)
	mapping = false
	require.Need(t, require.Root, require.Mount)
	o, _, told := openCached(t, filepath.Join(ext4(t, harness.Loop(t, 64*mib)), "disk.img"), 8*mib)
	if err := errors.Join(unix.Fsync(int(o.f.Fd())), unix.Fadvise(int(o.f.Fd()), 4*mib, 4*mib, unix.FADV_DONTNEED)); err != nil {
		t.Fatal(err)
	}
	looks := 0
	see := func(off int64) bool { return o.View(off, mib, make([]byte, mib), func([]byte) { looks++ }) }
	if see(5*mib) || looks != 0 {
		t.Errorf("seen, in %d parts, though it is not cached", looks)
	}
	if _, err := o.f.ReadAt(make([]byte, mib), 5*mib); err != nil { // as the kernel reads ahead
		t.Fatal(err)
	}
	if told && !allCached(o.f, 5*mib, mib) {
		t.Error("what was read is not cached")
	}
	if see(5*mib) || looks != 0 {
		t.Errorf("seen, in %d parts, though it was not cached at first", looks)
	}
	if seen := see(0); seen != told {
		t.Errorf("the half that is cached: seen: %v, and the kernel tells what is cached: %v", seen, told)
	}
	if err := unix.Fadvise(int(o.f.Fd()), 0, 4*mib, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	if looks = 0; see(0) || looks != 0 {
		t.Errorf("seen, in %d parts, though it is not cached any more", looks)
	}
}

// A file that is cut while it is looked at is not seen, by copies either.
func TestView_CopiedCut(t *testing.T) {
	defer func(was bool) { mapping = was }(mapping)
	mapping = false
	path := filepath.Join(tmpfs(t), "disk.img")
	o, _, _ := openCached(t, path, 2*mib)
	looks := 0
	if o.View(0, 2*mib, make([]byte, mib), func([]byte) {
		looks++
		if err := os.Truncate(path, mib); err != nil {
			t.Fatal(err)
		}
	}) || looks != 1 {
		t.Errorf("seen after %d looks, though it was cut at the first", looks)
	}
}
