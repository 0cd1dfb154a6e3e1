// Package compress makes the bytes of patches and reads smaller on their way,
// where that makes them faster. Each frame is compressed by itself: it can be
// decided anew for each, and decoded without knowing another.
package compress

import (
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

const (
	minSize    = 2 << 10  // bytes; less is sent as it is
	sampleSize = 16 << 10 // bytes of a frame that are tried
	// worthwhile is the largest ratio of compressed to raw bytes that is used.
	worthwhile = 0.9
	window     = block.ExtentSize // bytes that zstd looks back: a frame has no more
)

// Encoder compresses the frames of one transfer after the other: a disk is copied in many,
// and each has the memory of the one before, some 4 MB. It is for one goroutine, and Begin
// comes first.
type Encoder struct {
	mode wire.Compression
	line line
	zstd *zstd.Encoder // made when it is first needed
	buf  []byte
}

// NewEncoder makes an Encoder for one transfer.
func NewEncoder(mode wire.Compression) *Encoder { return new(Encoder).Begin(mode) }

// Begin begins a transfer, of which nothing is known yet, and returns e. Whatever the mode,
// a frame that does not get smaller is left as it is.
func (e *Encoder) Begin(mode wire.Compression) *Encoder {
	e.mode, e.line = mode, newLine()
	return e
}

// Encode returns data as it should be sent. The result is valid until the next
// call. Wrote should follow.
func (e *Encoder) Encode(data []byte) (wire.Encoding, []byte) {
	enc := e.choose(data)
	if enc == wire.EncodingRaw {
		return enc, data
	}
	start := time.Now()
	out := e.encode(enc, data)
	e.line.encoded(enc, len(data), time.Since(start))
	if float64(len(out)) > worthwhile*float64(len(data)) {
		return wire.EncodingRaw, data
	}
	return enc, out
}

// Wrote tells how long it took to send n bytes, with all that the sender waited
// for: that is how fast the line is.
func (e *Encoder) Wrote(n int, took time.Duration) { e.line.wrote(n, took) }

func (e *Encoder) choose(data []byte) wire.Encoding {
	switch {
	case len(data) < minSize || e.mode == wire.CompressOff:
		return wire.EncodingRaw
	case e.mode == wire.CompressS2:
		return wire.EncodingS2
	case e.mode == wire.CompressZstd:
		return wire.EncodingZstd
	case e.line.fast():
		return wire.EncodingRaw
	}
	// From the middle: the beginning of an extent is more often a header.
	n := min(len(data), sampleSize)
	from := (len(data) - n) / 2
	sample := e.encode(wire.EncodingS2, data[from:from+n])
	return e.line.choose(float64(len(sample)) / float64(n))
}

func (e *Encoder) encode(enc wire.Encoding, data []byte) []byte {
	if need := s2.MaxEncodedLen(len(data)); cap(e.buf) < need {
		e.buf = make([]byte, need)
	}
	if enc == wire.EncodingS2 {
		return s2.Encode(e.buf[:cap(e.buf)], data)
	}
	if e.zstd == nil {
		var err error
		e.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
		if err != nil {
			panic("internal error: options of zstd: " + err.Error())
		}
	}
	return e.zstd.EncodeAll(data, e.buf[:0])
}

// Decoder is the other end. It is for one goroutine. Release at the end spares the next
// transfer most of its memory.
type Decoder struct {
	zstd *zstd.Decoder // made when it is first needed
	buf  *[]byte       // taken when it is first needed
}

// ErrCorrupted means that bytes do not decode to what they should.
var ErrCorrupted = errors.New("compressed data is damaged")

// Decode returns what data stands for, at most limit bytes and an extent. The
// result is valid until the next call, or as long as data is.
func (d *Decoder) Decode(enc wire.Encoding, data []byte, limit int) ([]byte, error) {
	limit = min(limit, block.ExtentSize)
	if enc == wire.EncodingRaw {
		return data, nil
	}
	if d.buf == nil {
		d.buf = block.GetBuffer()
	}
	var out []byte
	var err error
	switch enc {
	case wire.EncodingS2:
		var length int
		if length, err = s2.DecodedLen(data); err == nil && length <= limit {
			out, err = s2.Decode(*d.buf, data)
		} else if err == nil {
			err = fmt.Errorf("%d bytes instead of %d at most", length, limit)
		}
	case wire.EncodingZstd:
		if d.zstd == nil {
			d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(block.ExtentSize))
		}
		if err == nil {
			out, err = d.zstd.DecodeAll(data, (*d.buf)[:0])
		}
	default:
		return nil, fmt.Errorf("%w: encoding %d", ErrCorrupted, enc)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupted, err)
	}
	if len(out) > limit {
		return nil, fmt.Errorf("%w: %d bytes instead of %d at most", ErrCorrupted, len(out), limit)
	}
	return out, nil
}

// Release gives the memory back. What Decode returned is not valid any more; the Decoder is.
func (d *Decoder) Release() {
	if d.buf != nil {
		block.PutBuffer(d.buf)
		d.buf = nil
	}
}
