package delta

import "github.com/rclone-blockdev/rclone-blockdev/helper/block"

// A Viewer copies partSize bytes at once, or partBlocks blocks where these are more. They
// stay in the second-level cache of a core until they are hashed, which an extent would not,
// and are as many as are hashed at once.
const (
	partSize   = 256 << 10
	partBlocks = 32
)

// seen digests e where it lies in memory, by look, if it does and is not needed: as far as
// is known nothing of it will be sent. room is for copies of parts.
func (s *scanner) seen(e *extent, room []byte, look func(part []byte)) bool {
	if s.view == nil || s.sends != nil && s.sends(e.index) {
		return false
	}
	e.added, e.zero = 0, true
	room = room[:min(len(room), max(partSize, partBlocks*s.r.BlockSize))]
	if !s.view.View(e.offset, e.length, room, look) || e.added != e.length {
		return false
	}
	s.complete(e)
	return true
}

// read fills e from the source.
func (s *scanner) read(e *extent, buf []byte) error {
	data := buf[:e.length]
	if err := s.fill(e, data, e.offset); err != nil {
		return err
	}
	s.digest(e, data)
	return nil
}

// digest digests e, whose content is data.
func (s *scanner) digest(e *extent, data []byte) {
	e.added, e.zero = 0, true
	s.add(e, data)
	s.complete(e)
}

// add digests the blocks of the next part of e.
func (s *scanner) add(e *extent, part []byte) {
	sums := e.sums.blocks[e.added/s.r.BlockSize:]
	e.added += len(part)
	if block.Scan(sums, part, s.r.BlockSize) != nil {
		e.zero = false
	} else if !e.zero || e.added < e.length {
		block.ZeroDigests(sums, len(part), s.r.BlockSize)
	}
}

// complete digests e when all its parts were added.
func (s *scanner) complete(e *extent) {
	if e.zero {
		e.setZero(s.r.BlockSize)
		return
	}
	e.blocks = e.sums.blocks[:block.Count(e.length, s.r.BlockSize)]
	e.digest = block.ExtentDigest(e.blocks)
}

// fill reads data of e at off. What is in a gap becomes zero.
func (s *scanner) fill(e *extent, data []byte, off int64) (err error) {
	if s.gaps != nil {
		e.gaps, err = s.gaps.Fill(data, off, e.gaps)
		return err
	}
	err = readFull(s.src, data, off)
	clearGaps(data, off, e.gaps)
	return err
}

func (e *extent) setZero(blockSize int) {
	e.zero, e.blocks = true, nil
	e.digest = block.ZeroExtent(e.length, blockSize)
}

// blockDigests returns the digests of all blocks; those of a zero extent are put into
// room, which must be enough.
func (e *extent) blockDigests(room []block.Digest, blockSize int) []block.Digest {
	if e.zero {
		return block.ZeroDigests(room, e.length, blockSize)
	}
	return e.blocks
}
