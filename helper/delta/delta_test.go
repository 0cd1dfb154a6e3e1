package delta

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
)

// shapes are block sizes in bytes and windows in extents.
var shapes = []struct {
	blockSize int
	window    int64
}{
	{512, 1}, {512, 256}, {4096, 1}, {4096, 2}, {4096, 256}, {64 << 10, 2}, {1 << 20, 1}, {1 << 20, 256},
}

// targets returns what the source may be copied onto, all as long as it.
func targets(source []byte, blockSize int) map[string][]byte {
	filled := bytes.Clone(source)
	for at := 0; at < len(filled); at += blockSize {
		if b := filled[at:min(at+blockSize, len(filled))]; block.IsZero(b) {
			copy(b, image(len(b), uint64(at)))
		}
	}
	return map[string][]byte{
		"equal":              source,
		"zero":               make([]byte, len(source)),
		"other":              image(len(source), 99),
		"scattered":          changed(source, blockSize, 7, blockSize/3),
		"every last byte":    changed(source, blockSize, 1, blockSize-1),
		"data for all zeros": filled,
	}
}

func TestTransfer(t *testing.T) {
	for _, size := range edges.Sizes() {
		for _, c := range edges.Contents() {
			source := c.Make(size, 1)
			for _, shape := range shapes {
				if size > 2*block.ExtentSize && testing.Short() {
					continue
				}
				for name, before := range targets(source, shape.blockSize) {
					t.Run(fmt.Sprintf("%d %s/%d/%d/%s", size, c.Name, shape.blockSize, shape.window, name), func(t *testing.T) {
						o := outcome{source: source, before: before, dev: memdev.FromBytes(before)}
						o.transfer = transfer{src: memdev.FromBytes(source), tgt: o.dev, window: shape.window, buffer: 1 << 20, inbox: 16,
							r: rangeOf(size, shape.blockSize)}
						o.s, o.r = o.run(t)
						o.check(t)
					})
				}
			}
		}
	}
}
