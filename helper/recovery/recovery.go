// Package recovery keeps on the host of a target what brings it back: before
// blocks are overwritten, what they held is written to a log and made durable.
// The log is one file, written by all streams of a transfer and by all runs that
// a transfer takes, so it leads to the state before the first byte was written.
//
// It knows files, not devices: what is written and read is given to it. The
// format is in docs/undo.md.
package recovery

import (
	"errors"
	"io"
	"time"
)

// Bytes.
const (
	sectorSize = 512       // what a disk writes whole or not at all
	pageSize   = 4096      // what is kept or not
	region     = 256 << 20 // pages of one are marked together
)

// groupSize is how many bytes of the target are written after one sync of the log.
var groupSize int64 = 8 << 20

// Device is what is kept and brought back.
type Device interface {
	io.ReaderAt
	io.WriterAt
	// Data is the next range that may hold anything but zeros.
	Data(off, end int64) (start, stop int64, err error)
	Zero(off, n int64) error
	Sync() error
	Size() int64
}

// Errors that are more than a failure of the file system.
var (
	ErrNone    = errors.New("no log of it")
	ErrDamaged = errors.New("the log is damaged")
	ErrDiffers = errors.New("the target is not in the state that the log belongs to")
	ErrUndoing = errors.New("an undo was begun and not completed")
	ErrSpace   = errors.New("no space left for the log")
	ErrIO      = errors.New("the log cannot be written")

	// ErrCommitted is a spool that is to be applied, and belongs to another transfer.
	ErrCommitted = errors.New("an earlier copy was committed and not applied to its end, so the target may be partly updated")
)

// Subject is a target as the log has it.
type Subject struct {
	Path  string    // as the client names it
	IDs   []string  // identities that a copy does not change
	File  bool      // an image file
	Size  int64     // bytes it had before
	Begun time.Time //
}

// At is called at each step that a crash may follow, with the log as it is then. It
// is for tests.
var At = func(step string, l *Log) {}

// span is a range of bytes of the target.
type span struct{ from, to int64 }

func (s span) meets(o span) bool { return s.from < o.to && o.from < s.to }

// pages is a set of pages of the target.
type pages map[int64]*[region / pageSize / 64]uint64

// bit is where the page at byte off is.
func (p pages) bit(off int64) (word *uint64, mask uint64) {
	r := p[off/region]
	if r == nil {
		return nil, 0
	}
	i := off % region / pageSize
	return &r[i/64], 1 << (i % 64)
}

func (p pages) has(off int64) bool {
	word, mask := p.bit(off)
	return word != nil && *word&mask != 0
}

// add adds all pages of s.
func (p pages) add(s span) {
	for off := s.from / pageSize * pageSize; off < s.to; off += pageSize {
		if p[off/region] == nil {
			p[off/region] = new([region / pageSize / 64]uint64)
		}
		word, mask := p.bit(off)
		*word |= mask
	}
}

// all tells whether all pages of s are in the set.
func (p pages) all(s span) bool {
	for off := s.from / pageSize * pageSize; off < s.to; off += pageSize {
		if !p.has(off) {
			return false
		}
	}
	return true
}

// runs calls do with the parts of s that are in the set, or not, in turn.
func (p pages) runs(s span, do func(part span, in bool) error) error {
	for from := s.from; from < s.to; {
		in := p.has(from)
		to := min((from/pageSize+1)*pageSize, s.to)
		for to < s.to && p.has(to) == in {
			to = min(to+pageSize, s.to)
		}
		if err := do(span{from, to}, in); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// readFull reads all of b.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}
