//go:build vm

package inside

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// The holes of a target are not read either; what is written while others are scanned does not count for them.
func TestThinMap_Target(t *testing.T) {
	require.Need(t, require.Thin)
	for _, streams := range []int{1, 2} {
		t.Run(fmt.Sprint(streams), func(t *testing.T) {
			size := int64(streams) * thinSize // of each stream enough to ask for
			target := newPool(t, thinChunk).volume(t, "target", size)
			for i, at := range areas {
				put(t, target, at, mib, byte(i+9))
			}
			src := sparse(t, size)
			for i, at := range []int64{0, 30 * mib, 61 * mib, size - mib} {
				put(t, src, at, mib, byte(i+1))
			}
			step := func(name string) {
				t.Helper()
				n := read(t, target, func() { syncOnly(t, src, target, size, streams) })
				skipped(t, name, n, true)
				harness.Settle(t, target)
				harness.Same(t, src, target)
				if want, have := dataIn(t, src, thinChunk), mapped(t, target); have != want {
					t.Errorf("%s: %d KiB allocated for %d KiB of data", name, have>>10, want>>10)
				}
			}
			step("first")
			step("repeated")
			erase(t, src, 30*mib, mib)
			step("deleted")
		})
	}
}

// Another session of the same transfer writes while the mapping is asked for: it is used all the same, and nothing is said.
func TestThinMap_TargetMeanwhile(t *testing.T) {
	require.Need(t, require.Thin)
	target := thinVolume(t, newPool(t, thinChunk), "target")
	var both [2]*device.Object
	for i := range both {
		o, err := device.OpenWrite(target, device.WriteOptions{Size: thinSize, Lead: i == 0, Claim: device.Token{1}})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		both[i] = o
	}
	path, err := require.Program("thin_dump")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), "real") // the program goes by its own name
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(dir, "thin_dump")
	if err := os.Rename(path, original); err != nil {
		t.Fatal(err)
	}
	defer os.Rename(original, path)
	script := "#!/bin/sh\nexport PATH=/bin\ndd if=/dev/zero of=" + target + " bs=64k seek=200 count=4 conv=notrunc,fsync\nexec " + original + " \"$@\"\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	before := mapped(t, target)
	if notice := both[1].FindHoles(t.Context(), 0, thinSize); notice != "" {
		t.Error(notice)
	}
	if mapped(t, target) == before {
		t.Fatal("nothing was written meanwhile")
	}
	if start, _, err := both[1].ScanData(2*mib, thinSize); start != 20*mib || err != nil {
		t.Errorf("data begins at %d, %v", start, err)
	}
}

// A range that is received twice has become data by the first time.
func TestThinMap_TargetTwice(t *testing.T) {
	require.Need(t, require.Thin)
	p := newPool(t, thinChunk)
	target := thinVolume(t, p, "target")
	to, err := opened(t, target, thinSize, true)
	if err != nil {
		t.Fatal(err)
	}
	src := sparse(t, thinSize)
	for range 2 {
		put(t, src, 30*mib, mib, 7)
		for range 2 {
			from, err := opened(t, src, -1, false)
			if err != nil {
				t.Fatal(err)
			}
			r := block.Range{Length: thinSize, BlockSize: block.DefaultSize}
			if _, err := host.Join(t.Context(), from, to, r, func(int64) {}); err != nil {
				t.Fatal(err)
			}
			if err := from.Close(t.Context(), false, 0); err != nil {
				t.Fatal(err)
			}
			erase(t, src, 30*mib, mib)
		}
	}
	if err := to.Close(t.Context(), true, 1); err != nil {
		t.Fatal(err)
	}
	harness.Settle(t, target)
	harness.Same(t, src, target)
}
