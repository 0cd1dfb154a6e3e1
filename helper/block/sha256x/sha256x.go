// Package sha256x computes the SHA-256 digests of many blocks of one length at
// once. One digest is a chain in which each step waits for the one before, and
// leaves most of a processor idle; the chains of several blocks, in turn or side
// by side, use what is left. What has no companion goes through sha256-simd.
package sha256x

import (
	"encoding/binary"
	"sync"

	"github.com/minio/sha256-simd"
)

// Size is the length of a digest in bytes.
const Size = sha256.Size

const (
	chunkSize = 64 // bytes that one compression takes in
	maxLanes  = 32

	// maxChunks limits one call of a kernel, because the scheduler cannot
	// interrupt assembly: 16 KiB of each block, 0.1 ms or less.
	maxChunks = 256
)

// work is what kernels work on. They are called through pointers, so it cannot
// be on the stack.
type work struct {
	state  [8 * maxLanes]uint32
	blocks [maxLanes]*byte // where each lane goes on
	// Behind the last whole chunk of a block come its last bytes, a bit, zeros
	// and its length, in one or two chunks.
	tails      [maxLanes][2 * chunkSize]byte
	tailChunks int
}

var works = sync.Pool{New: func() any { return new(work) }}

// Sum stores in dst[i] the digest of data[i*size : (i+1)*size], for each i of
// which. Elements of dst that which does not name stay as they are.
func Sum[D ~[Size]byte](dst []D, data []byte, size int, which []uint16) {
	sum(chosen, dst, data, size, which)
}

// sum gives as many blocks as possible to the first kernels of the plan.
func sum[D ~[Size]byte](plan []*kernel, dst []D, data []byte, size int, which []uint16) {
	var w *work
	for len(which) > 0 {
		k := first(plan, len(which))
		if k == nil {
			at := int(which[0]) * size
			dst[which[0]] = D(sha256.Sum256(data[at : at+size]))
			which = which[1:]
			continue
		}
		if w == nil {
			w = works.Get().(*work)
			w.pad(size)
		}
		now := which[:min(k.lanes, len(which))]
		w.compress(k, data, size, now)
		for lane, i := range now {
			dst[i] = D(w.digest(k, lane))
		}
		which = which[len(now):]
	}
	if w != nil {
		w.blocks = [maxLanes]*byte{} // the pool must not hold data
		works.Put(w)
	}
}

// first is the first kernel that is worth its time for n blocks, or nil.
func first(plan []*kernel, n int) *kernel {
	for _, k := range plan {
		if n >= k.least {
			return k
		}
	}
	return nil
}

// pad writes what follows the last bytes of each block of a length.
func (w *work) pad(size int) {
	rest := size % chunkSize
	w.tailChunks = 1
	if rest+1+8 > chunkSize {
		w.tailChunks = 2
	}
	for lane := range w.tails {
		tail := w.tails[lane][:w.tailChunks*chunkSize]
		clear(tail)
		tail[rest] = 0x80
		binary.BigEndian.PutUint64(tail[len(tail)-8:], uint64(size)*8)
	}
}

// compress computes the states of the blocks named by which. Lanes without a
// block repeat the first one.
func (w *work) compress(k *kernel, data []byte, size int, which []uint16) {
	var blocks [maxLanes][]byte
	for lane := range k.lanes {
		i := int(which[0])
		if lane < len(which) {
			i = int(which[lane])
		}
		blocks[lane] = data[i*size : (i+1)*size]
		for word, value := range initial {
			w.state[k.word[word]+lane*k.lane] = value
		}
	}
	whole := size / chunkSize
	for c := 0; c < whole; c += maxChunks {
		for lane := range k.lanes {
			w.blocks[lane] = &blocks[lane][c*chunkSize]
		}
		k.compress(&w.state, &w.blocks, min(maxChunks, whole-c))
	}
	for lane := range k.lanes {
		copy(w.tails[lane][:], blocks[lane][whole*chunkSize:])
		w.blocks[lane] = &w.tails[lane][0]
	}
	k.compress(&w.state, &w.blocks, w.tailChunks)
}

// digest is what the state of a lane stands for.
func (w *work) digest(k *kernel, lane int) (d [Size]byte) {
	for word, at := range k.word {
		binary.BigEndian.PutUint32(d[4*word:], w.state[at+lane*k.lane])
	}
	return d
}

// initial is the state before the first chunk, FIPS 180-4, section 5.3.3.
var initial = [8]uint32{
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
}
