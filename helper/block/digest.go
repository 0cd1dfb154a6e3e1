package block

import (
	"encoding/binary"
	"hash"
	"math/bits"
	"sync"
	"unsafe"

	"github.com/minio/sha256-simd"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block/sha256x"
)

// Digest is a SHA-256 sum.
type Digest [sha256.Size]byte

// ShortSize is the length in bytes of a truncated digest. Two different blocks
// share one with probability 2^-32; a receiver therefore checks the digest of
// each extent before it writes, and asks for the whole extent when it differs.
const ShortSize = 4

// Short is the first ShortSize bytes of a digest.
type Short [ShortSize]byte

// Short truncates d.
func (d Digest) Short() Short { return Short(d[:ShortSize]) }

// Sum is the digest of one block.
func Sum(b []byte) Digest { return sha256.Sum256(b) }

// Digests stores the digest of each block of data in dst and returns the part of
// dst that was filled. Blocks of zeros cost no hash. dst must have room for
// Count(len(data), blockSize) digests; data is one extent at most.
func Digests(dst []Digest, data []byte, blockSize int) []Digest {
	return digestsBehind(0, dst, data, blockSize)
}

// Scan is Digests of data that may be all zeros. Then it returns nil, and leaves dst
// alone.
func Scan(dst []Digest, data []byte, blockSize int) []Digest {
	zeros := zeroPrefix(data)
	if zeros == len(data) {
		return nil
	}
	return digestsBehind(zeros/blockSize, dst, data, blockSize)
}

// digestsBehind is Digests of data whose first blocks are known to be zero.
func digestsBehind(zeros int, dst []Digest, data []byte, blockSize int) []Digest {
	dst = dst[:Count(len(data), blockSize)]
	zero := ZeroSum(blockSize)
	var filled [MaxPerExtent]uint16 // whole blocks that are not zero
	n := 0
	for i := range len(data) / blockSize {
		if i < zeros || IsZero(data[i*blockSize:(i+1)*blockSize]) {
			dst[i] = zero
		} else {
			filled[n] = uint16(i)
			n++
		}
	}
	sha256x.Sum(dst, data, blockSize, filled[:n])
	if tail := len(data) % blockSize; tail != 0 {
		dst[len(dst)-1] = sumOrZero(data[len(data)-tail:])
	}
	return dst
}

// sumOrZero is the digest of a short block.
func sumOrZero(b []byte) Digest {
	if IsZero(b) {
		return ZeroSum(len(b))
	}
	return Sum(b)
}

// ExtentDigest is the digest of an extent whose blocks have the given digests.
func ExtentDigest(blocks []Digest) Digest {
	if len(blocks) == 0 {
		return Sum(nil)
	}
	return Sum(unsafe.Slice(&blocks[0][0], len(blocks)*sha256.Size))
}

// ZeroSum is the digest of n zero bytes, n being at most ExtentSize.
func ZeroSum(n int) Digest {
	if CheckSize(n) == nil {
		return zeros().blocks[bits.TrailingZeros(uint(n))]
	}
	return Sum(make([]byte, n))
}

// ZeroDigests stores the digests of the blocks of an extent of length zero
// bytes in dst, as Digests would.
func ZeroDigests(dst []Digest, length, blockSize int) []Digest {
	dst = dst[:Count(length, blockSize)]
	zero := ZeroSum(blockSize)
	for i := range dst {
		dst[i] = zero
	}
	if tail := length % blockSize; tail != 0 {
		dst[len(dst)-1] = ZeroSum(tail)
	}
	return dst
}

// ZeroExtent is the extent digest of length zero bytes.
func ZeroExtent(length, blockSize int) Digest {
	if length == ExtentSize {
		return zeros().extents[bits.TrailingZeros(uint(blockSize))]
	}
	var blocks [MaxPerExtent]Digest
	return ExtentDigest(ZeroDigests(blocks[:], length, blockSize))
}

// zeroTable holds the digests of zero bytes that every transfer needs, indexed
// by the binary logarithm of the block size.
type zeroTable struct {
	blocks  [21]Digest // one block
	extents [21]Digest // one whole extent of such blocks
}

var zeros = sync.OnceValue(func() *zeroTable {
	t := new(zeroTable)
	page := make([]byte, MaxSize)
	var blocks [MaxPerExtent]Digest
	for size := MinSize; size <= MaxSize; size *= 2 {
		log := bits.TrailingZeros(uint(size))
		t.blocks[log] = Sum(page[:size])
		n := ExtentSize / size
		for i := range n {
			blocks[i] = t.blocks[log]
		}
		t.extents[log] = ExtentDigest(blocks[:n])
	}
	return t
})

// RootHash computes the root of a range from its extent digests, given in order.
type RootHash struct {
	h    hash.Hash
	last Digest // what Add hashes: the argument would be allocated
}

// NewRootHash starts the root of r. The offset of r is not part of it: equal
// content has equal roots wherever it lies.
func NewRootHash(r Range) *RootHash {
	h := sha256.New()
	head := binary.BigEndian.AppendUint32(nil, uint32(r.BlockSize))
	h.Write(binary.BigEndian.AppendUint64(head, uint64(r.Length)))
	return &RootHash{h: h}
}

// Add appends the digest of the next extent.
func (r *RootHash) Add(d Digest) {
	r.last = d
	r.h.Write(r.last[:])
}

// Sum returns the root of what was added.
func (r *RootHash) Sum() Digest {
	var d Digest
	r.h.Sum(d[:0])
	return d
}
