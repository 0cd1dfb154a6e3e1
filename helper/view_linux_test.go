package helper

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// A file that is cut while it is being hashed where it lies in memory ends in assembly: that, too, is told.
func TestView_CutWhileHashing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, bytes.Repeat([]byte("disk"), block.ExtentSize/4), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := device.OpenRead(path)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	sums := make([]block.Digest, block.ExtentSize/block.DefaultSize)
	for cut := block.ExtentSize - 4096; cut >= 0; cut -= 64 << 10 {
		if o.Mapped(0, block.ExtentSize, func(data []byte) {
			if err := os.Truncate(path, int64(cut)); err != nil {
				t.Fatal(err)
			}
			block.Digests(sums, data, block.DefaultSize)
		}) {
			t.Errorf("cut at %d: seen", cut)
		}
		if err := os.WriteFile(path, bytes.Repeat([]byte("disk"), block.ExtentSize/4), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
