//go:build linux

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// devices are pairs of source and target that are no files in memory.
var devices = []struct {
	name string
	make func(b *testing.B, size int64) string
}{
	{"loop", func(b *testing.B, size int64) string { return harness.Loop(b, size).Path }}, // over a file on the disk
	{"zram", func(b *testing.B, size int64) string { return harness.Zram(b, size) }},
}

// onDevices gives a bed whose image and its copy lie on devices.
func onDevices(b *testing.B, make func(b *testing.B, size int64) string) *bed {
	t := madeUp(b)
	src, dst := make(b, t.size), make(b, t.size)
	for _, device := range []string{src, dst} {
		if out, err := exec.Command("dd", "if="+t.src, "of="+device, "bs=1M", "conv=fsync").CombinedOutput(); err != nil {
			b.Fatalf("dd: %v: %s", err, out)
		}
	}
	os.Remove(t.src)
	t.src, t.dst, t.given = src, dst, true
	return t
}

// BenchmarkDevices is a further copy between devices, of which nothing is cached at first. Each run begins with a target
// in which 1 % of the blocks have been changed, after what was unchanged.
func BenchmarkDevices(b *testing.B) {
	for _, device := range devices {
		b.Run("device="+device.name, func(b *testing.B) {
			t := onDevices(b, device.make)
			for _, rate := range []float64{0, 1} {
				b.Run(fmt.Sprintf("rate=%v", rate), func(b *testing.B) {
					t.compare(b, false, []string{"blockdev", "blockdev-cached", "rsync-4k", "blocksync-fast-16k"}, scattered(rate))
				})
			}
		})
	}
}
