package delta

import (
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// against says what is known of the receiver's extent when a patch is made.
type against uint8

const (
	whole         against = iota // nothing: all blocks are sent
	againstZero                  // it is zero: all blocks that are not
	againstBlocks                // its truncated block digests are in extent.short
)

// sendPatch sends the runs of e that differ from what is known of the receiver's.
func (s *sender) sendPatch(e *extent, a against) error {
	p := &s.patch
	p.Extent, p.Digest, p.Runs = e.index, e.digest, p.Runs[:0]
	size := s.r.BlockSize
	if e.zero {
		p.Runs = append(p.Runs, wire.Run{Zero: true, Count: uint16(block.Count(e.length, size))})
	}
	full := block.ZeroSum(size)
	for i, d := range e.blocks {
		zero := d == full || i == len(e.blocks)-1 && d == block.ZeroSum(e.length-i*size)
		switch a {
		case againstZero:
			if zero {
				continue
			}
		case againstBlocks:
			if d.Short() == block.Short(e.short[i*block.ShortSize:]) {
				continue
			}
		}
		p.Runs = addBlock(p.Runs, i, zero)
	}
	e.sentData, e.sentZero = runBytes(e, p.Runs, size)
	if s.dry {
		p.Encoding = wire.EncodingNone
		return s.link.Write(p)
	}
	data, err := s.gather(e, p.Runs)
	if err != nil {
		return err
	}
	p.Encoding, p.Data = s.squeeze.Encode(data)
	start := time.Now()
	err = s.link.Write(p)
	s.squeeze.Wrote(len(p.Data), time.Since(start))
	if !s.once {
		s.scan.forget(e)
	}
	return err
}

// resend sends all of e. When its data was forgotten it is read and hashed again:
// a source that has changed meanwhile has another digest now, and that one counts.
func (s *sender) resend(e *extent) error {
	if e.data == nil {
		buf := block.GetBuffer() // beyond Hold: this is rare
		defer block.PutBuffer(buf)
		if err := s.scan.read(e, *buf); err != nil {
			return err
		}
		if e.untold() {
			if err := s.tellGaps(e); err != nil || s.keeps() {
				return err // the answer leads to a patch
			}
		}
		if !e.zero {
			e.data = (*buf)[:e.length]
		}
	}
	if err := s.sendPatch(e, whole); err != nil || !e.zero || s.kept(e) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.state = stateSettled // a zero patch has no answer
	return nil
}

// addBlock appends block i to the last run when that is its neighbour and alike.
func addBlock(runs []wire.Run, i int, zero bool) []wire.Run {
	if n := len(runs); n > 0 {
		last := &runs[n-1]
		if last.Zero == zero && int(last.First)+int(last.Count) == i {
			last.Count++
			return runs
		}
	}
	return append(runs, wire.Run{Zero: zero, First: uint16(i), Count: 1})
}

// gather returns the data of runs in one piece: from where it lies when it is
// one run, else copied or read to scratch.
func (s *sender) gather(e *extent, runs []wire.Run) ([]byte, error) {
	if e.data == nil {
		return s.reread(e, runs)
	}
	n := 0
	var data []byte
	for _, r := range runs {
		if r.Zero {
			continue
		}
		from, length := runSpan(e, r, s.r.BlockSize)
		part := e.data[from:][:length]
		if n == 0 {
			data = part
		} else {
			if n == 1 {
				data = append((*s.scratch)[:0], data...)
			}
			data = append(data, part...)
		}
		n++
	}
	return data, nil
}

// reread reads the data of runs, which was forgotten. It is not compared with what
// was there before: the receiver verifies it, and asks for the whole extent when
// the source has changed, or less of it can be read.
func (s *sender) reread(e *extent, runs []wire.Run) ([]byte, error) {
	data := (*s.scratch)[:0]
	for _, r := range runs {
		if r.Zero {
			continue
		}
		from, length := runSpan(e, r, s.r.BlockSize)
		part := data[len(data):][:length]
		if err := s.scan.fill(e, part, e.offset+int64(from)); err != nil {
			return nil, err
		}
		data = data[:len(data)+length]
	}
	return data, nil
}

// runBytes is how many bytes runs of e turn into data, and into zeros.
func runBytes(e *extent, runs []wire.Run, blockSize int) (data, zero int64) {
	for _, r := range runs {
		_, n := runSpan(e, r, blockSize)
		if r.Zero {
			zero += int64(n)
		} else {
			data += int64(n)
		}
	}
	return data, zero
}

// runSpan is where in e a run starts and how long it is, in bytes.
func runSpan(e *extent, r wire.Run, blockSize int) (from, n int) {
	from = int(r.First) * blockSize
	return from, min(int(r.Count)*blockSize, e.length-from)
}
