package delta

import (
	"errors"
	"io"
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Stream is a Source over a reader that can be read only once, from front to
// back. Reads may be asked for concurrently; each waits until those before it
// are done, so every byte must be asked for exactly once.
type Stream struct {
	r    io.Reader
	size int64 // bytes that the reader should give

	mu    sync.Mutex
	moved sync.Cond // pos or err changed
	pos   int64     // bytes read; hold mu
	err   error     // hold mu
}

// NewStream reads size bytes from r. A reader that gives fewer or more is an
// error, more only when the range reaches size.
func NewStream(r io.Reader, size int64) *Stream {
	s := &Stream{r: r, size: size}
	s.moved.L = &s.mu
	return s
}

// Data says that everything may be data: a stream has no map.
func (s *Stream) Data(off, end int64) (start, stop int64, err error) { return off, end, nil }

// Once says that nothing can be read again.
func (s *Stream) Once() {}

// ReadAt reads p at off when the stream has come there.
func (s *Stream) ReadAt(p []byte, off int64) (int, error) {
	if err := s.await(off); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(s.r, p) // without the lock: it is off's turn until pos moves
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pos += int64(n)
	if err != nil && s.err == nil {
		s.err = s.describe(err)
	}
	s.moved.Broadcast()
	return n, s.err
}

// await returns when the stream has come to off.
func (s *Stream) await(off int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.pos != off && s.err == nil {
		s.moved.Wait()
	}
	return s.err
}

// Complete refuses a source that has more bytes than it said. It must not be
// called before all reads have returned.
func (s *Stream) Complete() error {
	s.mu.Lock()
	pos, err := s.pos, s.err
	s.mu.Unlock()
	if err != nil || pos < s.size {
		return err
	}
	var one [1]byte
	switch _, err := io.ReadFull(s.r, one[:]); {
	case err == nil:
		s.Stop(wire.Errorf(wire.CodeSource, "source gave more than the %d bytes it should have: it changes while it is read", s.size))
	case !errors.Is(err, io.EOF):
		s.Stop(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Stop makes waiting and later reads return err, so that nobody waits for a
// turn that will not come. It does not end a Read of the reader: who gave the
// reader must make it return.
func (s *Stream) Stop(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.moved.Broadcast()
}

// describe turns an early end into an error that is never taken for a success.
func (s *Stream) describe(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return wire.Errorf(wire.CodeSource, "source ended after %d of %d bytes", s.pos, s.size)
	}
	return err
}
