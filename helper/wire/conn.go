package wire

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// Frame is one frame as it came from the stream. Its payload lies in a pooled
// buffer that the owner of the frame gives back with Release.
type Frame struct {
	Type    Type
	Payload []byte // valid until Release
	buf     *buffer
}

// Release gives the payload back. Messages decoded from it are then invalid.
// A second call does nothing.
func (f *Frame) Release() {
	if f.buf != nil {
		f.buf.pool.Put(f.buf)
	}
	*f = Frame{Type: f.Type}
}

// Decode unmarshals the payload into m, which must be of the frame's type.
func (f *Frame) Decode(m Message) error {
	if f.Type != m.Type() {
		return fmt.Errorf("frame of type %#02x where %#02x was expected: %w", uint8(f.Type), uint8(m.Type()), ErrInvalid)
	}
	return Unmarshal(f.Payload, m)
}

type buffer struct {
	b    []byte
	pool *sync.Pool
}

// payloads are the sizes of buffers, in bytes. Many frames may wait, most of them short: 64 KiB
// for each were a fifth of the memory of a first copy.
var payloads = [...]int{4 << 10, MaxControl, MaxBulk}

var pools [len(payloads)]sync.Pool // of *buffer, of each size

func init() {
	for i, size := range payloads {
		pools[i].New = func() any { return &buffer{make([]byte, size), &pools[i]} }
	}
}

// getBuffer returns a buffer for a payload of n bytes, MaxBulk at most.
func getBuffer(n int) *buffer {
	i := 0
	for payloads[i] < n {
		i++
	}
	return pools[i].Get().(*buffer)
}

// isLarge tells whether a payload of n bytes takes a buffer of MaxBulk. Bulk frames up to
// MaxControl do not: scattered changes come as many small patches.
func isLarge(n int) bool { return n > MaxControl }

// Large tells whether f holds a megabyte, whatever its length: who keeps frames keeps few of
// these.
func (f *Frame) Large() bool { return isLarge(len(f.Payload)) }

// Reader reads frames from a byte stream. It is for one goroutine.
type Reader struct {
	r    *bufio.Reader
	head [HeaderSize]byte
}

// NewReader reads frames from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 64<<10)} }

// Next reads the next frame. It returns io.EOF at the end of the stream between
// frames, io.ErrUnexpectedEOF within one, ErrTooLong before anything is
// allocated when the length is over the limit of the type, and ErrInvalid when
// reserved bits are set.
func (r *Reader) Next() (Frame, error) {
	if _, err := io.ReadFull(r.r, r.head[:]); err != nil {
		return Frame{}, err
	}
	t, n, err := parseHeader(&r.head)
	if err != nil {
		return Frame{}, err
	}
	buf := getBuffer(n)
	f := Frame{Type: t, Payload: buf.b[:n], buf: buf}
	if _, err := io.ReadFull(r.r, f.Payload); err != nil {
		f.Release()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	return f, nil
}

func parseHeader(h *[HeaderSize]byte) (Type, int, error) {
	t, n := Type(h[0]), binary.BigEndian.Uint32(h[4:])
	switch {
	case h[1] != 0 || h[2] != 0 || h[3] != 0:
		return 0, 0, fmt.Errorf("frame of type %#02x: reserved bits: %w", h[0], ErrInvalid)
	case n > uint32(t.maxPayload()):
		return 0, 0, fmt.Errorf("frame of type %#02x with %d bytes: %w", h[0], n, ErrTooLong)
	}
	return t, int(n), nil
}

// SkipTo discards what comes before the magic, MaxPreamble bytes at most, and the
// magic itself. It returns what was skipped, for a message to the user.
func (r *Reader) SkipTo(magic string) (skipped []byte, err error) {
	for len(skipped) < MaxPreamble+len(magic) {
		b, err := r.r.ReadByte()
		if err != nil {
			return skipped, err
		}
		skipped = append(skipped, b)
		if n := len(skipped) - len(magic); n >= 0 && string(skipped[n:]) == magic {
			return skipped[:n], nil
		}
	}
	return skipped, ErrTooLong
}

// Writer writes frames to a byte stream. It may be used by several goroutines;
// each frame is written whole.
type Writer struct {
	mu   sync.Mutex
	w    *bufio.Writer
	head []byte // owned by the holder of mu
	err  error  // first error; hold mu
	n    int64  // bytes written; hold mu
}

// NewWriter writes frames to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: bufio.NewWriterSize(w, 32<<10)} }

// WriteMagic opens the stream.
func (w *Writer) WriteMagic() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, w.err = w.w.WriteString(Magic)
	return w.err
}

// Write sends m, behind what was queued. A message that is not valid is refused; after any
// other error the stream is broken and every Write returns it.
func (w *Writer) Write(m Message) error { return w.put(m, true) }

// Queue is Write of what goes with the next Write or Flush, or when some 32 KiB are queued: a
// frame alone costs four system calls and as many switches between processes.
func (w *Writer) Queue(m Message) error { return w.put(m, false) }

func (w *Writer) put(m Message, now bool) error {
	if err := m.Validate(); err != nil {
		return fmt.Errorf("%T: %w", m, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.head = m.append(append(w.head[:0], make([]byte, HeaderSize)...))
	var tail []byte
	if m, ok := m.(bulk); ok {
		tail = m.bulk()
	}
	return w.write(m.Type(), tail, now)
}

// Forward queues a frame of another stream as it is. The frame stays the caller's.
func (w *Writer) Forward(f Frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.head = append(w.head[:0], make([]byte, HeaderSize)...)
	return w.write(f.Type, f.Payload, false)
}

// Flush sends what is queued.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flush()
}

func (w *Writer) flush() error {
	if w.err == nil {
		w.err = w.w.Flush()
	}
	return w.err
}

// write completes the header in w.head, and sends it and tail, now or with what follows.
// Hold mu.
func (w *Writer) write(t Type, tail []byte, now bool) error {
	n := len(w.head) - HeaderSize + len(tail)
	if n > t.maxPayload() {
		panic(fmt.Sprintf("internal error: frame of type %#02x with %d bytes", uint8(t), n))
	}
	if w.err != nil {
		return w.err
	}
	w.head[0] = byte(t)
	binary.BigEndian.PutUint32(w.head[4:], uint32(n))
	w.n += int64(n + HeaderSize)
	if _, w.err = w.w.Write(w.head); w.err != nil {
		return w.err
	}
	if _, w.err = w.w.Write(tail); w.err != nil || !now {
		return w.err
	}
	return w.flush()
}

// Written is the number of bytes of all frames sent, without the magic.
func (w *Writer) Written() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}
