package deltafile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"github.com/minio/sha256-simd"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// Writer writes a delta: any number of records, and then Finish. Without Finish nothing
// that was written is a delta. It is for one goroutine.
type Writer struct {
	h       Header
	w       *bufio.Writer
	sum     hash.Hash
	at      int64 // bytes written
	records int64
	buf     []byte
}

// NewWriter begins a delta.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	d := &Writer{h: h, w: bufio.NewWriterSize(w, 1<<16), sum: sha256.New()}
	return d, d.put(h.append(nil))
}

func (d *Writer) put(b []byte) error {
	d.sum.Write(b)
	n, err := d.w.Write(b)
	d.at += int64(n)
	return err
}

// Add appends a record. Of several of one extent the last one counts.
func (d *Writer) Add(r *Record) error {
	if _, err := r.raw(&d.h); err != nil {
		return err
	}
	b := append(d.buf[:0], kindRecord)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Extent))
	b = append(append(b, r.Digest[:]...), byte(r.Encoding))
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Runs)))
	for _, run := range r.Runs {
		b = binary.BigEndian.AppendUint16(b, run.First)
		b = binary.BigEndian.AppendUint16(b, run.Count)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Data)))
	d.buf = b
	d.records++
	if err := d.put(b); err != nil {
		return err
	}
	return d.put(r.Data)
}

// Finish completes the delta with the receipt of the new state and its manifest of n
// bytes, whose root is root.
func (d *Writer) Finish(receipt []byte, manifest io.Reader, n int64, root block.Digest) error {
	if len(receipt) > MaxReceipt {
		return fmt.Errorf("a receipt of %d bytes is too large for a delta", len(receipt))
	}
	end := d.at
	b := binary.BigEndian.AppendUint32([]byte{kindEnd}, uint32(len(receipt)))
	b = append(b, receipt...)
	if err := d.put(binary.BigEndian.AppendUint64(b, uint64(n))); err != nil {
		return err
	}
	chunk := make([]byte, 1<<16)
	for left := n; left > 0; {
		part := chunk[:min(left, int64(len(chunk)))]
		if _, err := io.ReadFull(manifest, part); err != nil {
			return fmt.Errorf("the manifest: %w", err)
		}
		if err := d.put(part); err != nil {
			return err
		}
		left -= int64(len(part))
	}
	b = binary.BigEndian.AppendUint64(nil, uint64(end))
	b = binary.BigEndian.AppendUint64(b, uint64(d.records))
	if err := d.put(append(b, root[:]...)); err != nil {
		return err
	}
	if _, err := d.w.Write(d.sum.Sum(nil)); err != nil {
		return err
	}
	return d.w.Flush()
}

// Records is how many were added.
func (d *Writer) Records() int64 { return d.records }
