package wire

import (
	"encoding/binary"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// PatchDigest is the extent and its digest of a Patch that is not decoded, for who
// only passes it on.
func (f *Frame) PatchDigest() (extent int64, d block.Digest, err error) {
	if f.Type != TypePatch || len(f.Payload) < patchEncoding {
		return 0, d, ErrInvalid
	}
	return int64(binary.BigEndian.Uint64(f.Payload)), block.Digest(f.Payload[8:]), nil
}
