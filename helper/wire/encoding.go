package wire

// Encoding is how the bytes of a Patch or Data frame are encoded.
type Encoding uint8

// The encodings. A comparison has patches of EncodingNone, a transfer all others.
const (
	EncodingRaw  Encoding = 0 // the bytes as they are
	EncodingNone Encoding = 1 // no bytes: only the runs are told
	EncodingS2   Encoding = 2 // a block of S2
	EncodingZstd Encoding = 3 // a frame of zstd
)

// Compression is what a client wants of the encoding.
type Compression uint8

// The ways to compress. None makes anything larger: what does not get smaller is
// sent as it is.
const (
	CompressAuto Compression = 0 // where that makes the line faster
	CompressOff  Compression = 1
	CompressS2   Compression = 2
	CompressZstd Compression = 3
)

func (c Compression) validate() error {
	if c > CompressZstd {
		return ErrInvalid
	}
	return nil
}
