package delta

import (
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// mixed has extents that get smaller and extents that do not.
func mixed(size int) []byte {
	b := edges.Contents()[1].Make(size, 1)
	for i := range b {
		if i>>20&1 == 0 {
			b[i] = "a line of text that is repeated\n"[i%32]
		}
	}
	return b
}

func TestTransfer_Compress(t *testing.T) {
	for _, mode := range []wire.Compression{wire.CompressOff, wire.CompressS2, wire.CompressZstd} {
		for _, size := range []int{4096, 70_001, 5<<20 + 513} {
			source := mixed(size)
			seen := map[wire.Encoding]bool{}
			o := outcome{source: source, before: make([]byte, size), dev: memdev.New(int64(size))}
			o.transfer = transfer{src: memdev.FromBytes(source), tgt: o.dev, r: rangeOf(size, block.DefaultSize), window: 8, buffer: 1 << 20, compress: mode}
			o.prepare = func(sender, _ *link) {
				sender.sent = func(m wire.Message) {
					if p, ok := m.(*wire.Patch); ok {
						seen[p.Encoding] = true
					}
				}
			}
			o.s, o.r = o.run(t)
			o.check(t)
			want := map[wire.Compression]wire.Encoding{wire.CompressOff: wire.EncodingRaw, wire.CompressS2: wire.EncodingS2, wire.CompressZstd: wire.EncodingZstd}[mode]
			if !seen[want] || mode != wire.CompressOff && size > 2<<20 && !seen[wire.EncodingRaw] {
				t.Errorf("mode %d, %d bytes: encodings %v", mode, size, seen)
			}
		}
	}
}
