package delta

import (
	"bytes"
	"sync/atomic"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// viewed is memory that can be seen: every third extent all the way, every third one is lost while it is looked at,
// and the rest must be read.
type viewed struct {
	memory
	seen, lost, read atomic.Int64 // bytes
}

func (v *viewed) View(off int64, n int, use func(data []byte)) bool {
	switch off / block.ExtentSize % 3 {
	case 0:
		use(v.memory[off:][:n])
		v.seen.Add(int64(n))
		return true
	case 1:
		use(bytes.Repeat([]byte{0xee}, n))
		v.lost.Add(int64(n))
	}
	return false
}

func (v *viewed) ReadAt(p []byte, off int64) (int, error) {
	v.read.Add(int64(len(p)))
	return v.memory.ReadAt(p, off)
}

// What can be seen is not read, but for what is sent; what was lost under the eyes is read.
func TestTransfer_Viewed(t *testing.T) {
	const extents = 12
	size := extents * block.ExtentSize
	content := image(size, 1)
	clear(content[3*block.ExtentSize:][:block.ExtentSize])
	for _, c := range []struct {
		name   string
		target []byte
		sent   int64 // bytes of the extents that can be seen, read again to be sent
	}{
		{"identical", content, 0},
		{"scattered", changed(content, 4096, 100, 5), -1},
		{"first copy", make([]byte, size), 3 * block.ExtentSize}, // one of the four is zero
	} {
		t.Run(c.name, func(t *testing.T) {
			source, target := &viewed{memory: content}, &viewed{memory: bytes.Clone(c.target)}
			connect(t, source, target, rangeOf(size, 4096), Window)
			if !bytes.Equal(target.memory, content) {
				t.Fatal("the target is not what the source is")
			}
			for name, v := range map[string]*viewed{"source": source, "target": target} {
				if v.seen.Load() != int64(size/3) || v.lost.Load() != int64(size/3) {
					t.Errorf("%s: %d bytes seen and %d lost, want a third of %d", name, v.seen.Load(), v.lost.Load(), size)
				}
			}
			unseen := int64(size) * 2 / 3
			switch again := source.read.Load() - unseen; {
			case c.sent < 0 && (again <= 0 || again > int64(size)/10):
				t.Errorf("%d bytes of the source read again, want those that differ", again)
			case c.sent >= 0 && again < c.sent, c.sent == 0 && again != 0:
				t.Errorf("%d bytes of the source read again, want %d", again, c.sent)
			}
		})
	}
}
