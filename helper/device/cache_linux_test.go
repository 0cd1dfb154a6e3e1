package device

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

const cacheTestSize = 96 * mib

// warm is what of the test's object is in the page cache, in MiB.
var warm = []int64{0, 20, 21, 22, 50, 95}

// cacheObjects makes a file of ext4 and a loop device.
func cacheObjects(t *testing.T) map[string]string {
	require.Need(t, require.Root, require.Loop, require.Mount, require.Mkfs)
	disk, device := loop(t, image(t, 2*cacheTestSize)), loop(t, image(t, cacheTestSize))
	for _, d := range []string{disk, device} {
		run(t, "blockdev", "--setra", "16384", d) // 8 MiB are read ahead, in pieces of 2 MiB
	}
	run(t, "mkfs.ext4", "-q", disk)
	dir := t.TempDir()
	run(t, "mount", disk, dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	return map[string]string{"file": filepath.Join(dir, "disk.img"), "device": device}
}

// fill writes random bytes to path, and leaves what is warm in the cache. The file must stay open: a device that
// nobody has open has nothing cached.
func fill(t *testing.T, path string) *os.File {
	t.Helper()
	content := make([]byte, cacheTestSize)
	rand.NewChaCha8([32]byte{1}).Read(content)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	for _, advice := range []int{unix.FADV_DONTNEED, unix.FADV_RANDOM} { // the second: no reading ahead
		if err := unix.Fadvise(int(f.Fd()), 0, 0, advice); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range warm {
		if _, err := f.ReadAt(content[:mib], i*mib); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// cachedPages counts the pages of each MiB that are in the page cache.
func cachedPages(t *testing.T, f *os.File) []int {
	t.Helper()
	m, err := unix.Mmap(int(f.Fd()), 0, cacheTestSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	counts := make([]int, cacheTestSize/mib)
	var pages [mib / 4096]byte
	for i := range counts {
		if err := mincore(m[i*mib:][:mib], &pages); err != nil {
			t.Fatal(err)
		}
		for _, p := range pages {
			counts[i] += int(p & 1)
		}
	}
	return counts
}

// scan reads a range of o as a transfer does, by several goroutines.
func scan(t *testing.T, o *Object, from, end int64) {
	t.Helper()
	var next atomic.Int64
	next.Store(from)
	var g sync.WaitGroup
	for range 4 {
		g.Go(func() {
			buf := make([]byte, mib)
			for off := next.Add(mib) - mib; off < end; off = next.Add(mib) - mib {
				if _, err := o.ReadAt(buf, off); err != nil {
					t.Error(err)
				}
			}
		})
	}
	g.Wait()
}

// settle waits until the system reads no further ahead.
func settle(t *testing.T, f *os.File) {
	t.Helper()
	last := cachedPages(t, f)
	for still := 0; still < 10; still++ { // a busy machine reads late
		time.Sleep(20 * time.Millisecond)
		if now := cachedPages(t, f); !slices.Equal(last, now) {
			last, still = now, 0
		}
	}
}

// What was cached before a copy is so after it, and nothing else. Now and then single pages that nobody has dropped are
// missing, each time at other places, and the kernel does not count them as reclaimed: once in three tries all must be
// there.
func TestCache_LeftAsItWas(t *testing.T) {
	const tries = 3
	for name, path := range cacheObjects(t) {
		t.Run(name, func(t *testing.T) {
			for try := 1; ; try++ {
				wrong := changedCache(t, path)
				if wrong == nil {
					return
				}
				t.Logf("try %d: %s", try, strings.Join(wrong, "\n"))
				if try == tries {
					t.Fatal("the cache is not as it was")
				}
			}
		})
	}
}

// changedCache reads and writes what is at path, and tells where other pages are cached than before.
func changedCache(t *testing.T, path string) (wrong []string) {
	f := fill(t, path)
	before := cachedPages(t, f)
	for i, n := range before {
		if hot := slices.Contains(warm, int64(i)); hot && n != mib/os.Getpagesize() || !hot && n != 0 {
			t.Fatalf("before: %d pages of MiB %d are cached", n, i)
		}
	}
	check := func(when string) {
		if after := cachedPages(t, f); !slices.Equal(after, before) {
			wrong = append(wrong, fmt.Sprintf("pages cached %s:\n%v, before:\n%v", when, after, before))
		}
	}
	source, err := OpenRead(path)
	if err != nil {
		t.Fatal(err)
	}
	scan(t, source, mib, 40*mib) // a stripe
	settle(t, f)
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
	check("after reading")
	for i, compared := range []bool{true, false} { // a first copy reads nothing
		target, err := OpenWrite(path, WriteOptions{Size: cacheTestSize})
		if err != nil {
			t.Fatal(err)
		}
		defer target.Close()
		if compared {
			scan(t, target, 0, cacheTestSize)
		}
		for i := int64(i); i < cacheTestSize/mib; i += 2 {
			if _, err := target.WriteAt(bytes.Repeat([]byte{byte(i)}, mib/2), i*mib); err != nil {
				t.Fatal(err)
			}
		}
		settle(t, f)
		if err := target.Sync(); err != nil { // the end of a stripe, and not yet of the transfer
			t.Fatal(err)
		}
		check(fmt.Sprint("after writing, compared: ", compared))
		if err := target.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return wrong
}

// Both ways to ask what is cached say the same.
func TestCache_BothWaysToAsk(t *testing.T) {
	for name, path := range cacheObjects(t) {
		t.Run(name, func(t *testing.T) {
			f := fill(t, path)
			var want, stat, mapped regionCache
			for _, i := range warm {
				want[i] = true
			}
			if err := cachedByStat(f, 0, &stat); err != nil {
				t.Fatal(err)
			}
			if err := cachedByMap(f, 0, &mapped); err != nil {
				t.Fatal(err)
			}
			if stat != want || mapped != want {
				t.Errorf("cachestat says %v, mincore says %v", stat, mapped)
			}
		})
	}
}

// A region that is cached as a whole, and one with a gap.
func TestCachedByStat_Whole(t *testing.T) {
	f, err := os.OpenFile(image(t, cacheRegion), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := io.Copy(io.Discard, f); err != nil || n != cacheRegion {
		t.Fatal(n, err)
	}
	var got, want regionCache
	for i := range want {
		want[i] = true
	}
	if err := cachedByStat(f, 0, &got); err != nil || got != want {
		t.Errorf("%v, %v", got, err)
	}
	dropCached(f, 96*mib, 8*mib) // pieces of the cache that lie within go, the largest have 2 MiB
	got = regionCache{}
	if err := cachedByStat(f, 0, &got); err != nil || got[99] || !got[90] || !got[110] {
		t.Errorf("with a gap: %v, %v, %v, %v", got[99], got[90], got[110], err)
	}
}

// What has no other place than the cache is not looked at: nothing of it could be dropped. The node of a device is on a
// file system in memory, its content is not.
func TestCache_InMemory(t *testing.T) {
	paths := cacheObjects(t)
	dir := t.TempDir()
	run(t, "mount", "-t", "ramfs", "ramfs", dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	paths["tmpfs"], paths["ramfs"] = filepath.Join(tmpfs(t), "disk.img"), filepath.Join(dir, "disk.img")
	for name, path := range paths {
		fill(t, path)
		o, err := OpenRead(path)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		if _, err := o.ReadAt(make([]byte, mib), 0); err != nil {
			t.Fatal(err)
		}
		if blind := o.cache.blind; blind != (name == "tmpfs" || name == "ramfs") {
			t.Errorf("%s: not looked at: %v", name, blind)
		}
	}
}
