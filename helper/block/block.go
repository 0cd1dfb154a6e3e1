// Package block is the arithmetic of blocks, extents and digests that both
// ends of a transfer must agree on: how a range is cut, what is zero, what the
// digest of a block, an extent and a range is. It does no I/O and knows no
// transport.
//
// A range of a device is cut into extents of [ExtentSize] bytes and each extent
// into blocks of the block size of the transfer; the last extent and the last
// block of a range may be short. Three digests build on each other:
//
//	digest        SHA-256 of the bytes of one block
//	extent digest SHA-256 over the digests of the blocks of one extent
//	root          SHA-256 over block size, length and the extent digests of a range
package block

import (
	"bytes"
	"fmt"
	"math/bits"
)

// Sizes in bytes. ExtentSize is part of the protocol: both ends count extents.
const (
	DefaultSize = 4 << 10
	MinSize     = 512
	MaxSize     = 1 << 20
	ExtentSize  = 1 << 20
	StripeSize  = 256 << 20

	// MaxPerExtent is the number of blocks in a whole extent at MinSize.
	MaxPerExtent = ExtentSize / MinSize
)

// CheckSize refuses block sizes that are no power of two from MinSize to MaxSize.
func CheckSize(size int) error {
	if size < MinSize || size > MaxSize || bits.OnesCount(uint(size)) != 1 {
		return fmt.Errorf("block size %d: must be a power of two from %d to %d", size, MinSize, MaxSize)
	}
	return nil
}

// Count is the number of blocks, the last one perhaps short, in n bytes.
func Count(n, blockSize int) int { return (n + blockSize - 1) / blockSize }

// Range is a run of bytes of a device, and how it is cut. Extents are numbered
// from 0 at Offset.
type Range struct {
	Offset, Length int64 // bytes
	BlockSize      int   // bytes
}

// Extents is the number of extents of r, the last one perhaps short.
func (r Range) Extents() int64 {
	n := r.Length / ExtentSize
	if r.Length%ExtentSize != 0 {
		n++
	}
	return n
}

// Extent returns where extent i starts on the device and how long it is.
func (r Range) Extent(i int64) (offset int64, length int) {
	start := i * ExtentSize
	return r.Offset + start, int(min(ExtentSize, r.Length-start))
}

// Stripes cuts the bytes [0, size) into ranges of StripeSize, the last one
// perhaps short. An empty device is one empty stripe, so that it, too, is
// opened, compared and made durable.
func Stripes(size int64, blockSize int) []Range {
	stripes := []Range{{Offset: 0, Length: min(size, StripeSize), BlockSize: blockSize}}
	for off := int64(StripeSize); off < size; off += StripeSize {
		stripes = append(stripes, Range{Offset: off, Length: min(StripeSize, size-off), BlockSize: blockSize})
	}
	return stripes
}

// zeroPage stays in the first-level cache beside what is compared with it.
var zeroPage [16 << 10]byte

// IsZero tells whether all bytes of b are zero. It runs at memory speed and
// leaves at the first page that is not.
func IsZero(b []byte) bool { return zeroPrefix(b) == len(b) }

// zeroPrefix is how many bytes at the beginning of b are zero, in whole pages or all.
func zeroPrefix(b []byte) int {
	for at := 0; at < len(b); at += len(zeroPage) {
		page := b[at:min(at+len(zeroPage), len(b))]
		if !bytes.Equal(page, zeroPage[:len(page)]) {
			return at
		}
	}
	return len(b)
}
