// Package deltafile is a delta as a file: what has changed on a device or image since a
// state that is known by its root, with the digests of the new state. Files of which each
// has the root that the next one is based on are a chain, from which the last state is
// made again. The format is in docs/deltas.md.
//
// A delta proves what it says of itself only in so far as it is kept where nobody changes
// it: its sums find damage, not malice.
package deltafile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// magic begins every delta. Transfers that change line ends or cut bytes to seven bits
// break it.
const magic = "\x89BDD\r\n\x1a\n"

// Version is that of the format.
const Version = 1

// Ext is what the names of deltas end with in a folder from which a chain is taken.
const Ext = ".delta"

// MaxReceipt bounds the receipts that a delta carries, in bytes: 200 TiB have so many
// stripes.
const MaxReceipt = 64 << 20

// maxSize is what no device exceeds, in bytes.
const maxSize = 1 << 62

// Sizes in bytes.
const (
	digestSize  = 32
	fixedSize   = len(magic) + 3*4 + 2*8 + digestSize // of the header, without its receipt
	recordSize  = 8 + digestSize + 1 + 2              // of a record, without its kind, runs and data
	runSize     = 2 * 2
	TrailerSize = 2*8 + 2*digestSize
)

// Kinds of what comes behind the header.
const (
	kindRecord byte = 1
	kindEnd    byte = 2
)

// ErrFormat is what every error about the content of a delta matches.
var ErrFormat = errors.New("no valid delta")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// Header says what a delta is between.
type Header struct {
	BlockSize int          // bytes
	Size      int64        // bytes, of the new state
	BaseSize  int64        // bytes, of the state before; negative when the delta is full and needs none
	BaseRoot  block.Digest // of the state before
	Base      []byte       // receipt of the state before, JSON; nil without one
}

// Full tells whether the delta needs no state before it.
func (h *Header) Full() bool { return h.BaseSize < 0 }

// Range is all of the new state.
func (h *Header) Range() block.Range { return block.Range{Length: h.Size, BlockSize: h.BlockSize} }

func (h *Header) check() error {
	if err := block.CheckSize(h.BlockSize); err != nil {
		return broken("%v", err)
	}
	if h.Size < 0 || h.Size > maxSize || h.BaseSize < -1 || h.BaseSize > maxSize {
		return broken("from %d to %d bytes", h.BaseSize, h.Size)
	}
	if h.Full() && (h.BaseRoot != block.Digest{} || len(h.Base) > 0) {
		return broken("it is full, and has a state before it")
	}
	if len(h.Base) > MaxReceipt {
		return broken("a receipt of %d bytes", len(h.Base))
	}
	return nil
}

func (h *Header) append(b []byte) []byte {
	b = append(b, magic...)
	for _, n := range []int{Version, h.BlockSize, block.ExtentSize} {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	for _, n := range []int64{h.Size, h.BaseSize} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = append(b, h.BaseRoot[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(h.Base)))
	return append(b, h.Base...)
}

// parse reads all of a header but its receipt, whose length it returns.
func parse(b []byte) (h Header, base int, err error) {
	if !bytes.HasPrefix(b, []byte(magic)) {
		return h, 0, broken("it does not begin like one")
	}
	if len(b) < fixedSize+4 {
		return h, 0, broken("it ends in its header")
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
	i64 := func(at int) int64 { return int64(binary.BigEndian.Uint64(b[at:])) }
	if v := u32(8); v != Version {
		return h, 0, broken("it has version %d of the format, this program reads %d", v, Version)
	}
	if extent := u32(16); extent != block.ExtentSize {
		return h, 0, broken("extents of %d bytes, not %d", extent, block.ExtentSize)
	}
	h.BlockSize = int(min(u32(12), block.MaxSize+1))
	h.Size, h.BaseSize = i64(20), i64(28)
	h.BaseRoot = block.Digest(b[36:])
	if n := u32(fixedSize); n > MaxReceipt || n > 0 && h.Full() {
		return h, 0, broken("a receipt of %d bytes before it", n)
	}
	return h, int(u32(fixedSize)), h.check()
}

// Record is an extent that has changed, and is not all zero.
type Record struct {
	Extent   int64
	Digest   block.Digest
	Encoding wire.Encoding
	Runs     []wire.Run // of data, ascending and with zeros between them; all other blocks are zero
	Data     []byte     // encoded bytes of the runs, one behind the other
}

// raw is the length of the data of r, decoded. It refuses runs that cannot be.
func (r *Record) raw(h *Header) (n int, err error) {
	if r.Extent < 0 || r.Extent >= h.Range().Extents() {
		return 0, broken("a record of extent %d", r.Extent)
	}
	_, length := h.Range().Extent(r.Extent)
	blocks, next := block.Count(length, h.BlockSize), -1
	for _, run := range r.Runs {
		end := int(run.First) + int(run.Count)
		if int(run.First) <= next || run.Count == 0 || run.Zero || end > blocks {
			return 0, broken("the runs of extent %d", r.Extent)
		}
		next = end
		n += min(end*h.BlockSize, length) - int(run.First)*h.BlockSize
	}
	switch {
	case n == 0:
		return 0, broken("extent %d has no data", r.Extent)
	case len(r.Data) > n, r.Encoding != wire.EncodingRaw && r.Encoding != wire.EncodingZstd, r.Encoding == wire.EncodingRaw && len(r.Data) != n:
		return 0, broken("extent %d has %d bytes in encoding %d", r.Extent, len(r.Data), r.Encoding)
	}
	return n, nil
}

// Checker verifies records. It is for one goroutine.
type Checker struct {
	dec  compress.Decoder
	sums []block.Digest
}

// Check refuses a record whose bytes are not what its digest says.
func (c *Checker) Check(h *Header, r *Record) error {
	n, err := r.raw(h)
	if err != nil {
		return err
	}
	data, err := c.dec.Decode(r.Encoding, r.Data, n)
	if err != nil || len(data) != n {
		return broken("extent %d is damaged: %d of %d bytes: %v", r.Extent, len(data), n, err)
	}
	if c.sums == nil {
		c.sums = make([]block.Digest, block.Count(block.ExtentSize, h.BlockSize))
	}
	_, length := h.Range().Extent(r.Extent)
	sums := block.ZeroDigests(c.sums, length, h.BlockSize)
	for _, run := range r.Runs {
		k := min((int(run.First)+int(run.Count))*h.BlockSize, length) - int(run.First)*h.BlockSize
		block.Digests(sums[run.First:], data[:k], h.BlockSize)
		data = data[k:]
	}
	switch block.ExtentDigest(sums) {
	case block.ZeroExtent(length, h.BlockSize):
		return broken("extent %d is zero, and has a record", r.Extent)
	case r.Digest:
		return nil
	}
	return broken("extent %d is damaged: its digest is wrong", r.Extent)
}

// Joined are runs of data without those of zeros; neighbours are one.
func Joined(to, runs []wire.Run) []wire.Run {
	for _, r := range runs {
		if r.Zero {
			continue
		}
		if n := len(to); n > 0 && int(to[n-1].First)+int(to[n-1].Count) == int(r.First) {
			to[n-1].Count += r.Count
			continue
		}
		to = append(to, r)
	}
	return to
}
