package host

import (
	"math"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// ShareProcessors says that n sessions with the host, this one included, do their parts of one
// thing at once. The helper uses its share of the processors for the ranges that it is asked for
// from now on, or all when n is not above 1. It ends with Release.
func (s *Session) ShareProcessors(n int) { s.share = uint8(min(max(n, 0), math.MaxUint8)) }

// toSend is the request to be the sender of r.
func (s *Session) toSend(r block.Range, window int64) *wire.Send {
	m := wire.NewSend(r, window)
	m.Share, m.Compress = s.share, s.compression()
	return m
}

// toReceive is the request to be the receiver of r.
func (s *Session) toReceive(r block.Range) *wire.Receive {
	m := wire.NewReceive(r, delta.Window)
	m.Share = s.share
	return m
}
