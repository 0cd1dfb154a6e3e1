package manifest

import (
	"bufio"
	"fmt"
	"hash"
	"io"

	"github.com/minio/sha256-simd"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// Writer writes a manifest: all digests in order, and then Finish. Without Finish
// nothing that was written is a manifest.
type Writer struct {
	r    block.Range
	w    *bufio.Writer
	sum  hash.Hash
	root *block.RootHash
	next int64 // extent
	zero int64 // extents

	stored block.Digest // what Add hashes: an argument would be allocated
}

// NewWriter begins a manifest. Sizes that cannot be are refused; what cannot be stored of
// names is left out.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	h = h.clean()
	if err := h.check(); err != nil {
		return nil, err
	}
	m := &Writer{r: h.Range(), w: bufio.NewWriter(w), sum: sha256.New(), root: block.NewRootHash(h.Range())}
	return m, m.put(h.append(nil))
}

func (m *Writer) put(b []byte) error {
	m.sum.Write(b)
	_, err := m.w.Write(b)
	return err
}

// Add appends the digest of the next extent.
func (m *Writer) Add(d block.Digest) error {
	if m.next == m.r.Extents() {
		return fmt.Errorf("internal error: more than %d digests in a manifest", m.next)
	}
	_, length := m.r.Extent(m.next)
	m.next++
	m.root.Add(d)
	if m.stored = d; d == block.ZeroExtent(length, m.r.BlockSize) {
		m.stored = block.Digest{}
		m.zero++
	}
	return m.put(m.stored[:])
}

// Finish completes the manifest and returns the root of its digests.
func (m *Writer) Finish() (block.Digest, error) {
	root := m.root.Sum()
	if m.next != m.r.Extents() {
		return root, fmt.Errorf("internal error: %d of %d digests in a manifest", m.next, m.r.Extents())
	}
	if err := m.put(root[:]); err != nil {
		return root, err
	}
	if _, err := m.w.Write(m.sum.Sum(nil)); err != nil {
		return root, err
	}
	return root, m.w.Flush()
}

// Zeros is how many of the extents that were added are zero.
func (m *Writer) Zeros() int64 { return m.zero }
