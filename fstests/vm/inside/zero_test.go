//go:build vm

package inside

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// counter is what the kernel has counted of a device: sectors that were read, written and discarded.
type counter struct{ read, written, discarded int64 }

// counted asks the kernel for the counters of a device.
func counted(t *testing.T, path string) counter {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	dev := uint64(fi.Sys().(*syscall.Stat_t).Rdev)
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(dev), unix.Minor(dev)))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(text))
	return counter{number(t, f[2]), number(t, f[6]), number(t, f[13])}
}

// since is what was done after before.
func (c counter) since(before counter) counter {
	return counter{c.read - before.read, c.written - before.written, c.discarded - before.discarded}
}

// provisioned is the number of units for which the simulated disk has space.
func provisioned(t *testing.T) (total int64) {
	t.Helper()
	text, err := os.ReadFile("/sys/bus/pseudo/drivers/scsi_debug/map")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(strings.TrimSpace(string(text)), ",") {
		first, last, found := strings.Cut(part, "-")
		if !found {
			last = first
		}
		if first != "" {
			total += number(t, last) - number(t, first) + 1
		}
	}
	return total
}

// fill writes a device full, with no byte that is zero.
func fill(t *testing.T, dev string, size int64) {
	t.Helper()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i%255 + 1)
	}
	if err := os.WriteFile(dev, data, 0); err != nil {
		t.Fatal(err)
	}
	run(t, "sync", dev)
}

// zeroed makes the middle half of a target zero, in that mode.
func zeroed(t *testing.T, dev string, size int64, mode device.ZeroMode) {
	t.Helper()
	o, err := device.OpenWrite(dev, device.WriteOptions{Size: size, Zero: mode})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Abort()
	if err := o.Zero(size/4, size/2); err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(time.Time{}); err != nil {
		t.Fatal(err)
	}
	harness.Settle(t, dev)
	for i, b := range harness.ReadBack(t, dev) {
		if inside := int64(i) >= size/4 && int64(i) < size/4+size/2; inside != (b == 0) && (inside || b == 0) {
			t.Fatalf("mode %d: byte %d is %d", mode, i, b)
		}
	}
}

// What each mode makes of disks: who frees is seen in the map of the simulated disk. Disks that do not promise zeros
// where they free are refused when freeing is insisted on, and are written otherwise.
func TestZero_Modes(t *testing.T) {
	for _, c := range []struct {
		name, parameters string
		frees            bool
	}{
		{"WriteSame16", "lbpws=1 lbprz=1", true},
		{"WriteSame10", "lbpws10=1 lbprz=1", true},
		{"WriteSame16Keeps", "lbpws=1 lbprz=0", false},
		{"Unmap", "lbpu=1 lbprz=1", true}, // the kernel zeroes by other means
		{"UnmapCoarse", "lbpu=1 lbprz=1 unmap_granularity=128", true},
		{"UnmapGivesOnes", "lbpu=1 lbprz=2", false},
		{"UnmapKeeps", "lbpu=1 lbprz=0", false},
		{"Nothing", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dev := scsi(t, c.parameters)
			unit := int64(512)
			if strings.Contains(c.parameters, "unmap_granularity=128") {
				unit *= 128
			}
			left := func(mode device.ZeroMode, want int64) {
				t.Helper()
				fill(t, dev, scsiSize)
				zeroed(t, dev, scsiSize, mode)
				if have := provisioned(t) * unit; have != want && strings.Contains(c.parameters, "lbp") {
					t.Errorf("mode %d: %d KiB have space, not %d", mode, have>>10, want>>10)
				}
			}
			freed := int64(scsiSize)
			if c.frees {
				freed /= 2
			}
			left(device.ZeroWrite, scsiSize)
			left(device.ZeroAuto, freed)
			if c.frees {
				left(device.ZeroPunch, freed)
				return
			}
			fill(t, dev, scsiSize)
			before := counted(t, dev)
			_, err := device.OpenWrite(dev, device.WriteOptions{Size: scsiSize, Zero: device.ZeroPunch})
			if err == nil || !strings.Contains(err.Error(), "zero = punch") {
				t.Errorf("got %v", err)
			}
			if did := counted(t, dev).since(before); did.written != 0 || did.discarded != 0 {
				t.Errorf("refused, and %+v sectors were touched", did)
			}
		})
	}
}

// The modes on a thin volume: discarded chunks, or none.
func TestZero_ModesOfThin(t *testing.T) {
	const size, chunk = 8 * mib, 256 << 10
	for mode, want := range map[device.ZeroMode]int64{device.ZeroAuto: size / 2, device.ZeroWrite: size, device.ZeroPunch: size / 2} {
		t.Run(strconv.Itoa(int(mode)), func(t *testing.T) {
			target := newPool(t, chunk).volume(t, "target", size)
			fill(t, target, size)
			zeroed(t, target, size, mode)
			if have := mapped(t, target); have != want {
				t.Errorf("%d KiB allocated, not %d", have>>10, want>>10)
			}
		})
	}
}

// A pool that ignores discards, and a volume over another device, free nothing.
func TestZero_ThinRefused(t *testing.T) {
	const size, chunk = 8 * mib, 64 << 10
	for _, features := range [][]string{{"ignore_discard"}, nil} {
		t.Run(strings.Join(features, " "), func(t *testing.T) {
			p := newPool(t, chunk, features...)
			origin := ""
			if features == nil {
				origin = harness.Loop(t, size).Path
			}
			run(t, "dmsetup", "message", p.path, "0", "create_thin 0")
			target := dm(t, "target", "0 "+sectors(size)+" thin "+p.path+" 0 "+origin)
			_, err := openedTo(t, target, size, wire.ZeroPunch)
			refused(t, err, wire.CodeUnsupported, target, "zero = punch")
		})
	}
}

// What is zero at both ends is not touched, not even by a request to free it.
func TestZero_Untouched(t *testing.T) {
	const chunk = 64 << 10
	src := harness.Image{Size: scsiSize, Hole: 0.3, Zero: 0.3, Seed: 3}.File(t)
	check := func(t *testing.T, dev string) {
		t.Helper()
		before := counted(t, dev)
		sync(t, src, dev, scsiSize, 1)
		first := counted(t, dev).since(before)
		if want := dataIn(t, src, 4096) / 512; first.written != want || first.discarded != 0 {
			t.Errorf("first: %d sectors written and %d discarded for %d of data", first.written, first.discarded, want)
		}
		before = counted(t, dev)
		sync(t, src, dev, scsiSize, 2)
		if again := counted(t, dev).since(before); again.written != 0 || again.discarded != 0 {
			t.Errorf("repeated: %d sectors written and %d discarded", again.written, again.discarded)
		}
	}
	t.Run("Scsi", func(t *testing.T) {
		dev := scsi(t, "lbpws=1 lbprz=1")
		erase(t, dev, 0, scsiSize)
		run(t, "sync", dev)
		check(t, dev)
	})
	t.Run("Thin", func(t *testing.T) { check(t, newPool(t, chunk).volume(t, "target", scsiSize)) })
}
