package delta

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
)

// shape is how a range is cut and how far the receiver may run ahead.
type shape struct {
	blockSize int   // bytes
	window    int64 // extents
}

// shapes returns the shapes to try with an image of size bytes: large ones are slow.
func shapes(size int) []shape {
	if size >= block.ExtentSize-1 {
		return []shape{{512, 2}, {4096, 256}, {1 << 20, 1}}
	}
	return []shape{{512, 1}, {4096, 2}, {64 << 10, 256}, {1 << 20, 256}}
}

// targets returns what the source may be copied onto, all as long as it.
func targets(source []byte, blockSize int) map[string][]byte {
	filled := bytes.Clone(source)
	for at := 0; at < len(filled); at += blockSize {
		if b := filled[at:min(at+blockSize, len(filled))]; block.IsZero(b) {
			copy(b, image(len(b), byte(at/blockSize)))
		}
	}
	return map[string][]byte{
		"equal":              source,
		"zero":               make([]byte, len(source)),
		"other":              image(len(source)+1, 99)[1:],
		"scattered":          changed(source, blockSize, 7, blockSize/3),
		"every last byte":    changed(source, blockSize, 1, blockSize-1),
		"data for all zeros": filled,
	}
}

func TestTransfer(t *testing.T) {
	for _, size := range edges.Sizes() {
		for _, c := range edges.Contents() {
			source := c.Make(size, 1)
			for _, shape := range shapes(size) {
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

// Many more extents than are held at once, of every kind.
func TestTransfer_Long(t *testing.T) {
	source := image(5*Hold*block.ExtentSize/2+777, 1)
	before := changed(source, 4096, 1000, 5)
	for i := range 5 * Hold / 2 {
		at := i * block.ExtentSize
		switch i % 5 {
		case 0:
			clear(source[at+5000 : at+600000])
		case 1:
			clear(before[at : at+block.ExtentSize])
		case 2:
			clear(source[at : at+block.ExtentSize])
		case 3:
			copy(before[at:at+block.ExtentSize], source[at:])
		}
	}
	o := outcome{source: source, before: before, dev: memdev.FromBytes(before)}
	o.transfer = transfer{src: memdev.FromBytes(source), tgt: o.dev, window: 5, buffer: 1 << 20, inbox: 4, r: rangeOf(len(source), 4096)}
	o.s, o.r = o.run(t)
	o.check(t)
	if o.s.sum.Data != o.r.sum.Data {
		t.Errorf("%d bytes of data sent, %d written", o.s.sum.Data, o.r.sum.Data)
	}
}

// A range in the middle of a device leaves what is around it alone.
func TestTransfer_Middle(t *testing.T) {
	const around = 3 * 512
	for _, size := range []int{1, 4097, block.ExtentSize + 513} {
		device, before := image(size+2*around, 1), image(size+2*around, 2)
		o := outcome{source: device[around : around+size], before: before, dev: memdev.FromBytes(before)}
		o.transfer = transfer{src: memdev.FromBytes(device), tgt: o.dev, window: 2,
			r: block.Range{Offset: around, Length: int64(size), BlockSize: 4096}}
		o.s, o.r = o.run(t)
		o.check(t)
	}
}

// What is equal crosses the wire as digests only, holes on both sides are not even read.
func TestTransfer_Bytes(t *testing.T) {
	const extents = 32
	size := extents * block.ExtentSize
	tests := []struct {
		name           string
		source, target *memdev.Device
		wire           int64 // bytes at most, both directions
		read           int64 // bytes, of the source
	}{
		{"equal", memdev.FromBytes(image(size, 1)), memdev.FromBytes(image(size, 1)), extents * 50, int64(size)},
		{"holes", memdev.New(int64(size)), memdev.New(int64(size)), extents * 50, 0},
		{"first copy of holes", memdev.New(int64(size)), memdev.FromBytes(image(size, 1)), extents * 100, 0},
		{"one block", memdev.FromBytes(changed(image(size, 1), size, 1, 0)), memdev.FromBytes(image(size, 1)), extents*50 + 4096 + 1200, int64(size)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := transfer{src: tt.source, tgt: tt.target, r: rangeOf(size, 4096), window: Window, buffer: 1 << 20, inbox: 16}
			s, r := tr.run(t)
			if s.err != nil || r.err != nil {
				t.Fatal(s.err, r.err)
			}
			if n := tr.sent + tr.received; n > tt.wire {
				t.Errorf("%d bytes on the wire, not %d", n, tt.wire)
			}
			if n := tt.source.Counts().BytesRead; n != tt.read {
				t.Errorf("%d bytes of the source read, not %d", n, tt.read)
			}
			if !bytes.Equal(tt.source.Bytes(), tt.target.Bytes()) {
				t.Error("the target differs")
			}
		})
	}
}
