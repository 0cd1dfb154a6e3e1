package delta

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// TestMain runs all tests with the most workers a range can have.
func TestMain(m *testing.M) {
	processors = max(processors, maxWorkers)
	runtime.GOMAXPROCS(processors)
	os.Exit(m.Run())
}

// pipe is one direction of a stream: what is written comes out after delay, and no more than size bytes are on
// their way.
type pipe struct {
	size  int
	delay time.Duration

	mu      sync.Mutex
	changed sync.Cond
	chunks  []chunk // hold mu
	held    int     // bytes of chunks; hold mu
	err     error   // ends both sides; hold mu
	written int64   // hold mu
}

type chunk struct {
	b   []byte
	due time.Time
}

func newPipe(size int, delay time.Duration) *pipe {
	p := &pipe{size: size, delay: delay}
	p.changed.L = &p.mu
	return p
}

func (p *pipe) Write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n < len(b) {
		for p.held == p.size && p.err == nil {
			p.changed.Wait()
		}
		if p.err != nil {
			return n, p.err
		}
		k := min(len(b)-n, p.size-p.held)
		p.chunks = append(p.chunks, chunk{append([]byte(nil), b[n:n+k]...), time.Now().Add(p.delay)})
		p.held += k
		n += k
		p.written += int64(k)
		p.changed.Broadcast()
	}
	return n, nil
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.err != nil {
			return 0, p.err
		}
		if len(p.chunks) == 0 {
			p.changed.Wait()
			continue
		}
		if wait := time.Until(p.chunks[0].due); wait > 0 {
			p.mu.Unlock()
			time.Sleep(wait)
			p.mu.Lock()
			continue
		}
		c := &p.chunks[0]
		n := copy(b, c.b)
		if c.b = c.b[n:]; len(c.b) == 0 {
			p.chunks = p.chunks[1:]
		}
		p.held -= n
		p.changed.Broadcast()
		return n, nil
	}
}

func (p *pipe) close(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	p.changed.Broadcast()
}

// link is one end of a stream, as a session makes it: a goroutine reads frames into an inbox.
type link struct {
	w     *wire.Writer
	inbox chan wire.Frame
	gone  chan struct{} // closed when err is set
	err   error         // why no more frames come

	mute wire.Type          // frames of this type are lost
	edit func(*wire.Frame)  // sees, and may change, each frame that comes
	sent func(wire.Message) // sees each message before it goes
}

func newLink(in io.Reader, out io.Writer, inbox int) *link {
	return &link{w: wire.NewWriter(out), inbox: make(chan wire.Frame, inbox), gone: make(chan struct{})}
}

// read fills the inbox until in or done ends.
func (l *link) read(in io.Reader, done <-chan struct{}) {
	r := wire.NewReader(in)
	defer close(l.gone)
	for {
		f, err := r.Next()
		if l.err = err; err != nil {
			return
		}
		if f.Type == l.mute {
			f.Release()
			continue
		}
		if l.edit != nil {
			edited := f // allocated, which f is not
			l.edit(&edited)
			f = edited
		}
		select {
		case l.inbox <- f:
		case <-done:
			l.err = errors.New("the test is over")
			return
		}
	}
}

func (l *link) Next(ctx context.Context, idle func() error) (wire.Frame, error) {
	select {
	case f := <-l.inbox:
		return f, nil
	default:
	}
	if idle != nil {
		if err := idle(); err != nil {
			return wire.Frame{}, err
		}
	}
	select {
	case f := <-l.inbox:
		return f, nil
	case <-l.gone:
		return wire.Frame{}, l.err
	case <-ctx.Done():
		return wire.Frame{}, context.Cause(ctx)
	}
}

func (l *link) Write(m wire.Message) error {
	if l.sent != nil {
		l.sent(m)
	}
	return l.w.Write(m)
}

func (l *link) Queue(m wire.Message) error {
	if l.sent != nil {
		l.sent(m)
	}
	return l.w.Queue(m)
}

func (l *link) Flush() error { return l.w.Flush() }
