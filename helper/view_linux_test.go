package helper

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// mapped is a source whose cached content is always mapped, also where copying is quicker.
type mapped struct {
	source
	seen atomic.Int64 // bytes
}

func (m *mapped) View(off int64, n int, _ []byte, use func(part []byte)) bool {
	ok := m.Mapped(off, n, use)
	if ok {
		m.seen.Add(int64(n))
	}
	return ok
}

// What is hashed where it lies has the digest of what is read.
func TestView_Root(t *testing.T) {
	const size = 4*block.ExtentSize + 4096
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(content)
	clear(content[block.ExtentSize:][:block.ExtentSize+100])
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := device.OpenRead(path)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	told := o.Mapped(0, block.ExtentSize, func([]byte) {}) // by Linux 6.5 or later
	m, r := &mapped{source: source{o}}, block.Range{Length: size, BlockSize: block.DefaultSize}
	got, err := delta.Root(t.Context(), m, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := delta.Root(t.Context(), struct{ delta.Source }{m}, r, nil)
	if err != nil || got != want {
		t.Errorf("mapped %x, read %x, %v", got, want, err)
	}
	if seen := m.seen.Load(); seen != map[bool]int64{true: size}[told] {
		t.Errorf("%d of %d bytes seen, and the kernel tells what is cached: %v", seen, size, told)
	}
}

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
