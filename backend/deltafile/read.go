package deltafile

import (
	"bufio"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"hash"
	"io"

	"github.com/minio/sha256-simd"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Reader reads a delta from front to back. Nothing of it is proved before End has
// returned, but each record is what its digest says. It is for one goroutine.
type Reader struct {
	Header

	in      *bufio.Reader
	sum     hash.Hash
	at      int64 // bytes read
	end     int64 // byte at which the end begins
	records int64
	check   Checker
	record  Record
	data    []byte
}

func newReader(in io.Reader) *Reader {
	return &Reader{in: bufio.NewReaderSize(in, 1<<16), sum: sha256.New(), data: make([]byte, block.ExtentSize)}
}

// NewReader reads the header.
func NewReader(in io.Reader) (*Reader, error) {
	r := newReader(in)
	fixed, err := r.take(fixedSize + 4)
	if err != nil {
		return nil, err
	}
	base := 0
	if r.Header, base, err = parse(fixed); err != nil {
		return nil, err
	}
	if base > 0 {
		r.Base, err = r.long(base)
	}
	return r, err
}

// take reads n bytes, which are valid until the next call. n is bounded by the caller.
func (r *Reader) take(n int) ([]byte, error) {
	b := r.data[:min(n, len(r.data))]
	k, err := io.ReadFull(r.in, b)
	r.sum.Write(b[:k])
	r.at += int64(k)
	return b[:k], cut(err)
}

// cut tells of a delta that is shorter than it should be.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return broken("it is cut: its end is missing")
	}
	return err
}

// long reads n bytes of the reader's own. It takes no more memory than there are.
func (r *Reader) long(n int) (all []byte, err error) {
	for len(all) < n {
		b, err := r.take(n - len(all))
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return all, nil
}

// Next reads and verifies the next record, which is valid until the next call. The error
// is io.EOF when there are no more: then End must follow.
func (r *Reader) Next() (*Record, error) {
	at := r.at
	b, err := r.take(1)
	if err != nil {
		return nil, err
	}
	switch b[0] {
	case kindEnd:
		r.end = at
		return nil, io.EOF
	case kindRecord:
	default:
		return nil, broken("kind %d at byte %d", b[0], at)
	}
	if b, err = r.take(recordSize); err != nil {
		return nil, err
	}
	rec := &r.record
	rec.Extent, rec.Runs = int64(binary.BigEndian.Uint64(b)), rec.Runs[:0]
	rec.Digest, rec.Encoding = block.Digest(b[8:]), wire.Encoding(b[8+digestSize])
	count := int(binary.BigEndian.Uint16(b[recordSize-2:]))
	if count > block.MaxPerExtent {
		return nil, broken("%d runs in extent %d", count, rec.Extent)
	}
	if b, err = r.take(count*runSize + 4); err != nil {
		return nil, err
	}
	for i := range count {
		rec.Runs = append(rec.Runs, wire.Run{First: binary.BigEndian.Uint16(b[i*runSize:]), Count: binary.BigEndian.Uint16(b[i*runSize+2:])})
	}
	n := binary.BigEndian.Uint32(b[count*runSize:])
	if n > block.ExtentSize {
		return nil, broken("extent %d has %d bytes", rec.Extent, n)
	}
	if rec.Data, err = r.take(int(n)); err != nil {
		return nil, err
	}
	r.records++
	return rec, r.check.Check(&r.Header, rec)
}

// End is what a delta says of the new state.
type End struct {
	Receipt  []byte         // JSON
	Manifest *manifest.File // to be closed
	Root     block.Digest
}

// End reads the rest, after the last record, and refuses a delta that is not whole.
func (r *Reader) End(name string) (*End, error) {
	e, err := r.state(name)
	if err != nil {
		return nil, err
	}
	if err := r.trailer(e); err != nil {
		_ = e.Manifest.Close()
		return nil, err
	}
	return e, nil
}

// state reads receipt and manifest.
func (r *Reader) state(name string) (*End, error) {
	b, err := r.take(4)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(b)
	if n > MaxReceipt {
		return nil, broken("a receipt of %d bytes", n)
	}
	e := new(End)
	if e.Receipt, err = r.long(int(n)); err != nil {
		return nil, err
	}
	if b, err = r.take(8); err != nil {
		return nil, err
	}
	e.Manifest, err = r.manifest(int64(binary.BigEndian.Uint64(b)), name)
	return e, err
}

// manifest reads the manifest of n bytes.
func (r *Reader) manifest(n int64, name string) (*manifest.File, error) {
	if n < 0 || n > maxSize {
		return nil, broken("a manifest of %d bytes", n)
	}
	in := io.LimitReader(r.in, n)
	m, err := manifest.Spool(io.TeeReader(in, r.sum), name)
	if err != nil {
		return nil, errors.Join(ErrFormat, err)
	}
	r.at += n
	if m.BlockSize != r.BlockSize || m.Size != r.Size {
		_ = m.Close()
		return nil, broken("its manifest is of %d bytes in blocks of %d", m.Size, m.BlockSize)
	}
	return m, nil
}

// trailer reads the last bytes.
func (r *Reader) trailer(e *End) error {
	b, err := r.take(TrailerSize - digestSize)
	if err != nil {
		return err
	}
	end, records := int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))
	e.Root = block.Digest(b[16:])
	sum := r.sum.Sum(nil)
	if b, err = r.take(digestSize); err != nil {
		return err
	}
	switch {
	case subtle.ConstantTimeCompare(sum, b) != 1:
		return broken("it is damaged: its SHA-256 sum is wrong")
	case end != r.end || records != r.records:
		return broken("it counts %d records up to byte %d, and has %d up to %d", records, end, r.records, r.end)
	case e.Root != e.Manifest.Root:
		return broken("its root is not that of its manifest")
	}
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = broken("something comes after its end")
		}
		return err
	}
	return nil
}

// ReadEnd reads what a delta of size bytes says of the new state. Its records are neither
// read nor verified. open gives n bytes of it at off.
func ReadEnd(size int64, name string, open func(off, n int64) (io.ReadCloser, error)) (*End, error) {
	const head = int64(fixedSize + 4)
	if size < head+int64(TrailerSize) {
		return nil, broken("it has %d bytes", size)
	}
	part := func(off, n int64, read func(*Reader) error) error {
		in, err := open(off, n)
		if err != nil {
			return err
		}
		defer in.Close()
		return read(newReader(in))
	}
	var h Header
	err := part(0, head, func(r *Reader) error {
		b, err := r.take(int(head))
		if err == nil {
			h, _, err = parse(b)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var at int64
	var root block.Digest
	tail := size - int64(TrailerSize)
	err = part(tail, int64(TrailerSize), func(r *Reader) error {
		b, err := r.take(TrailerSize)
		if err == nil {
			at, root = int64(binary.BigEndian.Uint64(b)), block.Digest(b[16:])
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if at < head || at >= tail {
		return nil, broken("its end begins at byte %d", at)
	}
	e := new(End)
	err = part(at, tail-at, func(r *Reader) error {
		r.Header = h
		kind, err := r.take(1)
		if err != nil {
			return err
		}
		if kind[0] != kindEnd {
			return broken("its end is not at byte %d", at)
		}
		e, err = r.state(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	if e.Root = root; e.Manifest.Root != root {
		_ = e.Manifest.Close()
		return nil, broken("its root is not that of its manifest")
	}
	return e, nil
}
