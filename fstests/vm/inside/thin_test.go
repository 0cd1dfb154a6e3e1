//go:build vm

package inside

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// pool is a thin pool of the device mapper.
type pool struct {
	path  string
	chunk int64 // bytes
	next  int   // number of the next volume
}

// poolSize is the size in bytes of every pool.
const poolSize = 64 * mib

// poolUUID is one as LVM gives it.
const poolUUID = "LVM-test-tpool"

func newPool(t *testing.T, chunk int64, features ...string) *pool {
	t.Helper()
	data, meta := harness.Loop(t, poolSize), harness.Loop(t, 8*mib)
	path := dm(t, "pool", fmt.Sprintf("0 %s thin-pool %s %s %s 0 %d %s", sectors(poolSize), meta.Path, data.Path, sectors(chunk),
		len(features), strings.Join(features, " ")), "--uuid", poolUUID)
	return &pool{path: path, chunk: chunk}
}

// volume makes an empty volume.
func (p *pool) volume(t *testing.T, name string, size int64) string {
	t.Helper()
	run(t, "dmsetup", "message", p.path, "0", fmt.Sprintf("create_thin %d", p.next))
	p.next++
	return dm(t, name, fmt.Sprintf("0 %s thin %s %d", sectors(size), p.path, p.next-1))
}

// snapshot keeps the present state of volume 0.
func (p *pool) snapshot(t *testing.T, of string) {
	t.Helper()
	run(t, "dmsetup", "suspend", of)
	run(t, "dmsetup", "message", p.path, "0", fmt.Sprintf("create_snap %d 0", p.next))
	run(t, "dmsetup", "resume", of)
	p.next++
}

// used is the space in bytes that the whole pool has given out.
func (p *pool) used(t *testing.T) int64 {
	t.Helper()
	// 0 LENGTH thin-pool TRANSACTION USED/TOTAL USED/TOTAL ...
	used, _, _ := strings.Cut(strings.Fields(run(t, "dmsetup", "status", p.path))[5], "/")
	return number(t, used) * p.chunk
}

// mapped is the space in bytes that a volume has.
func mapped(t *testing.T, volume string) int64 {
	t.Helper()
	return number(t, strings.Fields(run(t, "dmsetup", "status", volume))[3]) * 512
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// dataIn is the space that a file's content takes in chunks: those that are not all zero.
func dataIn(t *testing.T, path string, chunk int64) (total int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf, zero := make([]byte, chunk), make([]byte, chunk)
	for at := int64(0); ; at += chunk {
		if n, _ := f.ReadAt(buf, at); n == 0 {
			return total
		}
		if !bytes.Equal(buf, zero) {
			total += chunk
		}
	}
}

// erase zeroes n bytes of a file.
func erase(t *testing.T, path string, off, n int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, n), off); err != nil {
		t.Fatal(err)
	}
}

// A thin volume takes what the data of its source takes: after the first copy and a repeated one, and less after
// data was deleted, whatever the size of the pool's chunks and the number of streams.
func TestThin_Allocation(t *testing.T) {
	const size = 16 * mib
	for streams, chunk := range map[int]int64{1: 2 * mib, 2: 64 << 10} {
		t.Run(fmt.Sprintf("%dK", chunk>>10), func(t *testing.T) {
			target := newPool(t, chunk).volume(t, "target", size)
			src := harness.Image{Size: size, Hole: 0.4, Zero: 0.2, Text: 0.2, Seed: 1}.File(t)
			step := func(name string) {
				t.Helper()
				sync(t, src, target, size, streams)
				if want, have := dataIn(t, src, chunk), mapped(t, target); have != want {
					t.Errorf("%s: %d KiB allocated for %d KiB of data", name, have>>10, want>>10)
				}
			}
			step("first")
			step("repeated")
			erase(t, src, 2*mib, 4*mib) // of whole chunks
			step("deleted")
			erase(t, src, 10*mib-4096, 4*mib+8192) // and parts of chunks
			step("deleted more")
		})
	}
}

// Linux splits discards at odd places where a chunk's size is no power of two, and then ignores parts of them. The
// content is right all the same.
func TestThin_OddChunk(t *testing.T) {
	const size, chunk = 12 * mib, 192 << 10
	target := newPool(t, chunk).volume(t, "target", size)
	src := harness.Image{Size: size, Seed: 9}.File(t)
	sync(t, src, target, size, 1)
	erase(t, src, 4*mib, 4*mib)
	sync(t, src, target, size, 1)
}

// What was deleted block by block, by several runs, is freed when nothing is left of a chunk.
func TestThin_DeletedInPieces(t *testing.T) {
	const size, chunk = 8 * mib, 64 << 10
	target := newPool(t, chunk).volume(t, "target", size)
	src := harness.Image{Size: size, Seed: 2}.File(t)
	sync(t, src, target, size, 1)
	if have := mapped(t, target); have != size {
		t.Fatalf("%d bytes allocated for %d of data", have, size)
	}
	for off := int64(0); off < 4*mib; off += 8192 {
		erase(t, src, off, 4096)
	}
	sync(t, src, target, size, 1)
	for off := int64(4096); off < 4*mib; off += 8192 {
		erase(t, src, off, 4096)
	}
	sync(t, src, target, size, 1)
	if have := mapped(t, target); have != size-4*mib {
		t.Errorf("%d KiB allocated for %d KiB of data", have>>10, (size-4*mib)>>10)
	}
}

// From one thin volume to another the allocation is the same.
func TestThin_FromThin(t *testing.T) {
	const size, chunk = 8 * mib, 64 << 10
	p := newPool(t, chunk)
	target, source := p.volume(t, "target", size), p.volume(t, "source", size)
	harness.Image{Size: size, Hole: 0.6, Seed: 3}.Write(t, source)
	for _, round := range []string{"first", "repeated"} {
		sync(t, source, target, size, 1)
		if want, have := mapped(t, source), mapped(t, target); have != want {
			t.Errorf("%s: target has %d KiB, source %d", round, have>>10, want>>10)
		}
	}
}

// Files that are deleted in the file system of a thin source, and trimmed there, give their space back in the target.
func TestThin_Trimmed(t *testing.T) {
	const size, chunk, file = 48 * mib, 64 << 10, 4 * mib
	p := newPool(t, chunk)
	target, source := p.volume(t, "target", size), p.volume(t, "source", size)
	run(t, "mkfs.ext4", "-q", source)
	inside := func(fn func(dir string)) {
		t.Helper()
		dir := t.TempDir()
		run(t, "mount", source, dir)
		defer run(t, "umount", dir)
		fn(dir)
	}
	step := func(name string) int64 {
		t.Helper()
		sync(t, source, target, size, 1)
		have := mapped(t, target)
		if want := dataIn(t, source, chunk); have != want || have > mapped(t, source) {
			t.Errorf("%s: target has %d KiB for %d of data, source %d", name, have>>10, want>>10, mapped(t, source)>>10)
		}
		return have
	}
	inside(func(dir string) {
		for _, name := range []string{"stays", "goes"} {
			harness.Image{Size: file, Seed: 1}.Write(t, filepath.Join(dir, name))
		}
	})
	before := step("full")
	inside(func(dir string) {
		if err := os.Remove(filepath.Join(dir, "goes")); err != nil {
			t.Fatal(err)
		}
		run(t, "sync", "-f", dir) // what the journal still has is not trimmed
		run(t, "fstrim", dir)
	})
	if freed := before - step("trimmed"); freed < file-2*chunk {
		t.Errorf("%d KiB freed for a file of %d", freed>>10, int64(file)>>10)
	}
}

// After a snapshot of the target a copy takes new space only for the chunks that differ.
func TestThin_Snapshot(t *testing.T) {
	const size, chunk = 8 * mib, 64 << 10
	p := newPool(t, chunk)
	target := p.volume(t, "target", size)
	src := harness.Image{Size: size, Hole: 0.5, Seed: 4}.File(t)
	sync(t, src, target, size, 1)
	p.snapshot(t, target)
	before := p.used(t)
	sync(t, src, target, size, 1)
	if grown := p.used(t) - before; grown != 0 {
		t.Errorf("a copy without changes took %d KiB", grown>>10)
	}
	old, err := os.ReadFile(src)
	if err != nil {
		t.Fatal(err)
	}
	harness.Gather(t, src, 0.05, 5)
	changed := changedChunks(t, src, old, chunk)
	sync(t, src, target, size, 1)
	if grown := p.used(t) - before; grown != changed {
		t.Errorf("%d KiB changed, the pool grew by %d KiB", changed>>10, grown>>10)
	}
}

// changedChunks is the space of the chunks of a file that differ from what it was.
func changedChunks(t *testing.T, path string, old []byte, chunk int64) (total int64) {
	t.Helper()
	now, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < int64(len(now)); at += chunk {
		if !bytes.Equal(now[at:at+chunk], old[at:at+chunk]) {
			total += chunk
		}
	}
	return total
}

// A pool that gives out chunks with old data in them would spoil what is not written, so it is no target.
func TestThin_NotZeroed(t *testing.T) {
	harness.Tried(t, "pool-not-zeroed", 1)
	const size, chunk = 8 * mib, 64 << 10
	p := newPool(t, chunk, "skip_block_zeroing")
	t.Run("other", func(t *testing.T) {
		harness.Image{Size: poolSize, Seed: 6}.Write(t, p.volume(t, "other", poolSize))
	})
	run(t, "dmsetup", "message", p.path, "0", "delete 0")
	target := p.volume(t, "target", size)

	_, err := opened(t, target, size, true)
	refused(t, err, wire.CodeRefused, target, "does not zero", "lvchange --zero y")

	erase(t, target, 0, 4096) // and what would have happened
	run(t, "blockdev", "--flushbufs", target)
	if dataIn(t, target, chunk) == 0 {
		t.Error("the pool zeroes what it gives out: the refusal is no longer needed")
	}
}

// What is made of such a volume is no target either; without root nobody can tell, and none is.
func TestThin_NotZeroedBelow(t *testing.T) {
	const size, chunk = 8 * mib, 64 << 10
	for _, features := range [][]string{{"skip_block_zeroing"}, nil} {
		t.Run(strings.Join(features, " "), func(t *testing.T) {
			volume := newPool(t, chunk, features...).volume(t, "volume", size)
			lower := dm(t, "lower", "0 "+sectors(size)+" linear "+volume+" 0")
			part := dm(t, "part", "0 "+sectors(size/2)+" linear "+lower+" 2048")
			for _, target := range []string{lower, part} {
				s, err := opened(t, target, number(t, run(t, "blockdev", "--getsize64", target)), true)
				if target == lower { // it is held
					refused(t, err, wire.CodeBusy)
				} else if features != nil {
					refused(t, err, wire.CodeRefused, target, "does not zero")
				} else if err != nil {
					t.Error(err)
				} else if err := s.Close(t.Context(), false, 0); err != nil {
					t.Fatal(err)
				}
			}
			hidden(t, "/dev/mapper/control", func() {
				_, err := opened(t, part, size/2, true)
				refused(t, err, wire.CodePermission, part, "only root can find out")
			})
		})
	}
}

// hidden takes a file away while fn runs.
func hidden(t *testing.T, path string, fn func()) {
	t.Helper()
	if err := os.Rename(path, path+".hidden"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Rename(path+".hidden", path); err != nil {
			t.Fatal(err)
		}
	}()
	fn()
}

// A volume over another device, which shows through where the volume has no space, is zeroed by writing.
func TestThin_ExternalOrigin(t *testing.T) {
	const size, chunk = 8 * mib, 64 << 10
	p := newPool(t, chunk)
	origin := harness.Loop(t, size)
	harness.Image{Size: size, Seed: 7}.Write(t, origin.Path)
	run(t, "dmsetup", "message", p.path, "0", "create_thin 0")
	target := dm(t, "target", fmt.Sprintf("0 %s thin %s 0 %s", sectors(size), p.path, origin.Path))
	src := harness.Image{Size: size, Hole: 0.5, Seed: 8}.File(t)
	for range 2 {
		sync(t, src, target, size, 1)
	}
}
