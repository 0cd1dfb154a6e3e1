package fstests

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

const mib = 1 << 20

// mounted makes a file system of that type and mounts it until the test ends.
func mounted(t *testing.T, fstype string) (dir string) {
	t.Helper()
	require.Need(t, require.Root, require.Mount, require.Loop)
	dir = t.TempDir()
	if fstype == "tmpfs" {
		harness.Tool(t, "mount", "-t", fstype, "-o", "size=128m", "none", dir)
	} else {
		require.Need(t, map[string]require.Thing{"ext4": require.Mkfs, "xfs": require.Xfs, "btrfs": require.Btrfs}[fstype])
		dev := harness.Loop(t, 320*mib)
		harness.Tool(t, "mkfs."+fstype, "-q", dev.Path)
		harness.Tool(t, "mount", "-t", fstype, dev.Path, dir)
	}
	t.Cleanup(func() { harness.Tool(t, "umount", dir) })
	return dir
}

// dataIn is the number of bytes in blocks of a file that are not all zero.
func dataIn(t *testing.T, path string) (total int64) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, harness.BlockSize)
	for len(content) > 0 {
		n := min(len(content), len(zero))
		if !bytes.Equal(content[:n], zero[:n]) {
			total += int64(len(zero))
		}
		content = content[n:]
	}
	return total
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

// copied brings a target of this machine to the content of a file, and compares them.
func copied(t *testing.T, src, target string, options ...string) {
	t.Helper()
	client := harness.NewClient(t)
	args := append([]string{"copyto", "--ignore-times", src, "blockdev:localhost" + target}, options...)
	if r := client.Run(t, args...); r.Code != 0 {
		t.Fatalf("rclone ended with %d: %s", r.Code, r.Stderr)
	}
	harness.Same(t, src, target)
}

// keepsThin checks that a target takes what the data of its source takes: after a first copy and a repeated one, and
// less after data was deleted. slack is what its file system may take beyond that, in bytes.
func keepsThin(t *testing.T, target string, size, slack int64, taken func() int64) (src string) {
	t.Helper()
	src = harness.Image{Size: size, Hole: 0.4, Zero: 0.2, Text: 0.2, Seed: 1}.File(t)
	step := func(name string) {
		t.Helper()
		copied(t, src, target)
		if want, have := dataIn(t, src), taken(); have < want || have > want+slack {
			t.Errorf("%s: %d KiB taken for %d KiB of data", name, have>>10, want>>10)
		}
	}
	step("first")
	step("repeated")
	erase(t, src, 2*mib, 4*mib)
	step("deleted")
	erase(t, src, 10*mib-4096, 4*mib+8192)
	step("deleted more")
	return src
}

// allocated is what a file takes on its disk, when all of it is there.
func allocated(t *testing.T, path string) func() int64 {
	return func() int64 {
		harness.Tool(t, "sync", path)
		return harness.Allocated(t, path)
	}
}

// Images, and loop devices made of them, stay sparse on each file system.
func TestThin_FileSystems(t *testing.T) {
	const size, slack = 16 * mib, 64 << 10
	for _, fstype := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(fstype, func(t *testing.T) {
			dir := mounted(t, fstype)
			image := filepath.Join(dir, "disk.img")
			src := keepsThin(t, image, size, slack, allocated(t, image))
			before := allocated(t, image)()
			if err := os.Truncate(src, 2*size); err != nil {
				t.Fatal(err)
			}
			copied(t, src, image)
			if now := allocated(t, image)(); now > before+slack {
				t.Errorf("grown by a hole: %d KiB taken, before %d", now>>10, before>>10)
			}

			backing := filepath.Join(dir, "backing.img")
			harness.Tool(t, "truncate", "--size", strconv.Itoa(size), backing)
			dev := harness.LoopOn(t, backing)
			defer dev.Detach(t) // before its file system is unmounted
			keepsThin(t, dev.Path, size, slack, allocated(t, backing))
		})
	}
}

// used is the space that is taken of a file system.
func used(t *testing.T, dir string) int64 {
	t.Helper()
	harness.Tool(t, "sync", "-f", dir)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * int64(st.Bsize)
}

// An image that shares its blocks with a copy of itself takes new space for what changes only.
func TestThin_Reflink(t *testing.T) {
	const size, slack = 32 * mib, mib
	for _, fstype := range []string{"xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			dir := mounted(t, fstype)
			image := filepath.Join(dir, "disk.img")
			src := harness.Image{Size: size, Hole: 0.3, Seed: 2}.File(t)
			copied(t, src, image)
			harness.Tool(t, "cp", "--reflink=always", image, image+".old")
			before := used(t, dir)
			copied(t, src, image)
			if grown := used(t, dir) - before; grown > slack {
				t.Errorf("a copy without changes took %d KiB", grown>>10)
			}
			changed := harness.Gather(t, src, 0.2, 3)
			copied(t, src, image)
			if grown := used(t, dir) - before; grown < changed/2 || grown > changed+slack {
				t.Errorf("%d KiB changed, %d KiB taken", changed>>10, grown>>10)
			}
		})
	}
}

// zram makes a disk in compressed memory until the test ends. It takes no memory for pages that were freed, and knows
// which pages hold zeros that were written.
func zram(t *testing.T, size int64) (path string, stored func() (data, zeros int64)) {
	t.Helper()
	path = harness.Zram(t, size)
	name := filepath.Base(path)
	return path, func() (data, zeros int64) {
		harness.Settle(t, path)
		text, err := os.ReadFile("/sys/block/" + name + "/mm_stat")
		if err != nil {
			t.Fatal(err)
		}
		var f [8]int64 // see the kernel's admin-guide/blockdev/zram.rst
		for i, word := range strings.Fields(string(text))[:len(f)] {
			if f[i], err = strconv.ParseInt(word, 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		return f[0], f[5] * int64(os.Getpagesize())
	}
}

// A disk in memory takes memory for data only; with zeros that are written it would know them.
func TestThin_Zram(t *testing.T) {
	const size = 16 * mib
	path, stored := zram(t, size)
	src := keepsThin(t, path, size, 0, func() int64 { data, _ := stored(); return data })
	if _, zeros := stored(); zeros != 0 {
		t.Errorf("%d KiB of zeros are stored", zeros>>10)
	}
	erase(t, src, 0, 2*mib)
	copied(t, src, path, "--blockdev-zero", "write")
	if _, zeros := stored(); zeros == 0 {
		t.Error("zeros that are written are not seen")
	}
}
