package device

import (
	"io"
	"sync"
)

type readWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// sectors lets any range be read and written on a device that only takes whole
// sectors, as disks of FreeBSD do. Aligned requests pass straight through.
type sectors struct {
	f    readWriterAt
	unit int64       // bytes of a sector
	mu   *sync.Mutex // held while a sector is read, changed and written back
}

// around is the range of whole sectors that holds [off, off+n).
func (s sectors) around(off int64, n int) (lo, hi int64) {
	return off / s.unit * s.unit, (off + int64(n) + s.unit - 1) / s.unit * s.unit
}

func (s sectors) ReadAt(p []byte, off int64) (int, error) {
	lo, hi := s.around(off, len(p))
	if lo == off && hi == off+int64(len(p)) {
		return s.f.ReadAt(p, off)
	}
	buf := make([]byte, hi-lo)
	n, err := s.f.ReadAt(buf, lo)
	if skip := int(off - lo); n > skip {
		n = copy(p, buf[skip:n])
	} else {
		n = 0
	}
	if n == len(p) {
		err = nil
	}
	return n, err
}

func (s sectors) WriteAt(p []byte, off int64) (int, error) {
	lo, hi := s.around(off, len(p))
	if lo == off && hi == off+int64(len(p)) {
		return s.f.WriteAt(p, off)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	buf := make([]byte, hi-lo)
	if _, err := s.f.ReadAt(buf, lo); err != nil {
		return 0, err
	}
	copy(buf[off-lo:], p)
	if _, err := s.f.WriteAt(buf, lo); err != nil {
		return 0, err
	}
	return len(p), nil
}
