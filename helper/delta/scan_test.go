package delta

import (
	"runtime"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
)

// A helper that limits itself to a share of the processors reads as much at once as before.
func TestScanner_Workers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for extents, want := range map[int64]int{0: 0, 1: 1, 3: 3, maxWorkers: maxWorkers, 100: maxWorkers} {
		r := block.Range{Length: extents * block.ExtentSize, BlockSize: block.DefaultSize}
		if got := newScanner(memdev.FromBytes(nil), r, Window, false).workers(); got != want {
			t.Errorf("%d workers for %d extents, want %d", got, extents, want)
		}
	}
}
