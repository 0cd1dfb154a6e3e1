package manifest

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"github.com/minio/sha256-simd"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// readAhead is how many digests are read at once.
const readAhead = 2048

// Manifest is one that was read and found whole. Its memory does not depend on the
// size of the device. Its methods must not be called at the same time.
type Manifest struct {
	Header
	Root block.Digest // of the whole device
	Sum  block.Digest // of all bytes of the manifest before it

	r     io.ReaderAt
	at    int64 // byte of r at which the digests begin
	first int64 // number of the first digest in chunk
	chunk []byte
}

// Read checks all of a manifest of size bytes: that it is whole, and that its root is
// that of its digests. What r gives must not change as long as the manifest is used.
func Read(r io.ReaderAt, size int64) (*Manifest, error) {
	first := make([]byte, min(size, int64(maxHeader)))
	if _, err := r.ReadAt(first, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	h, at, err := parse(first)
	if err != nil {
		return nil, err
	}
	if want := h.length(); size != want {
		return nil, broken("it has %d bytes, and says that it has %d", size, want)
	}
	m := &Manifest{Header: h, r: r, at: int64(at)}
	return m, m.check(first[:at], size)
}

// check reads all of it once.
func (m *Manifest) check(header []byte, size int64) error {
	sum := sha256.New()
	sum.Write(header)
	root := block.NewRootHash(m.Range())
	for i := range m.Extents() {
		d, stored, err := m.digest(i)
		if err != nil {
			return err
		}
		sum.Write(stored)
		root.Add(d)
	}
	var trailer [trailerSize]byte
	if _, err := m.r.ReadAt(trailer[:], size-int64(trailerSize)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	sum.Write(trailer[:digestSize])
	if subtle.ConstantTimeCompare(sum.Sum(nil), trailer[digestSize:]) != 1 {
		return broken("it is damaged: its SHA-256 sum is wrong")
	}
	m.Root, m.Sum = root.Sum(), block.Digest(trailer[digestSize:])
	if m.Root != block.Digest(trailer[:digestSize]) {
		return broken("its root is not that of its digests")
	}
	return nil
}

// Extents is the number of digests.
func (m *Manifest) Extents() int64 { return m.Range().Extents() }

// Digest is that of extent i. Reading them in order is fastest.
func (m *Manifest) Digest(i int64) (block.Digest, error) {
	d, _, err := m.digest(i)
	return d, err
}

// Zero tells whether all bytes of extent i were zero.
func (m *Manifest) Zero(i int64) (bool, error) {
	_, stored, err := m.digest(i)
	return err == nil && block.Digest(stored) == block.Digest{}, err
}

// digest also gives the bytes as they are stored, valid until the next call: a zero
// extent has none but zeros there.
func (m *Manifest) digest(i int64) (d block.Digest, stored []byte, err error) {
	if i < 0 || i >= m.Extents() {
		return d, nil, fmt.Errorf("extent %d of a manifest of %d", i, m.Extents())
	}
	if i < m.first || i >= m.first+int64(len(m.chunk)/digestSize) {
		if err := m.fill(i); err != nil {
			return d, nil, err
		}
	}
	stored = m.chunk[int(i-m.first)*digestSize:][:digestSize]
	_, length := m.Range().Extent(i)
	zero := block.ZeroExtent(length, m.BlockSize)
	switch d = block.Digest(stored); d {
	case block.Digest{}:
		return zero, stored, nil
	case zero:
		return d, nil, broken("extent %d is zero and not stored as such", i)
	}
	return d, stored, nil
}

// fill reads digests from i on.
func (m *Manifest) fill(i int64) error {
	n := int(min(readAhead, m.Extents()-i)) * digestSize
	if m.chunk == nil {
		m.chunk = make([]byte, n, readAhead*digestSize)
	}
	m.chunk, m.first = m.chunk[:0], i // nothing is known when reading fails
	k, err := m.r.ReadAt(m.chunk[:n], m.at+i*int64(digestSize))
	if k < n {
		if errors.Is(err, io.EOF) {
			return broken("it was cut while it was read")
		}
		return err
	}
	m.chunk = m.chunk[:n]
	return nil
}

// RootOf is the root of a part that begins and ends at an extent, or at the end: of a
// stripe, for one.
func (m *Manifest) RootOf(offset, length int64) (block.Digest, error) {
	end := offset + length
	if offset < 0 || length < 0 || offset > m.Size || end > m.Size || offset%block.ExtentSize != 0 || end%block.ExtentSize != 0 && end != m.Size {
		return block.Digest{}, fmt.Errorf("bytes %d to %d of a manifest of %d are no extents of it", offset, end, m.Size)
	}
	r := block.Range{Offset: offset, Length: length, BlockSize: m.BlockSize}
	root := block.NewRootHash(r)
	for i := range r.Extents() {
		d, err := m.Digest(offset/block.ExtentSize + i)
		if err != nil {
			return block.Digest{}, err
		}
		root.Add(d)
	}
	return root.Sum(), nil
}
