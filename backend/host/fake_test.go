package host

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// fakeConn is a connection whose helpers run in this process.
type fakeConn struct {
	attended bool  // somebody may be asked for another one
	failure  error // of Start
	done     chan struct{}
	once     sync.Once

	mu      sync.Mutex
	streams []*Stream // hold mu
}

func (c *fakeConn) Start(ctx context.Context) (*Stream, error) {
	if c.failure != nil {
		return nil, c.failure
	}
	near, far := net.Pipe()
	p := &process{stdin: near, stdout: near, stderr: &tail{}, exited: make(chan struct{}), kill: func() { near.Close() }}
	go func() {
		p.status = helper.Serve(context.Background(), far, helper.Policy{})
		close(p.exited)
	}()
	s := &Stream{input: near, proc: p}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams = append(c.streams, s)
	return s, nil
}

func (c *fakeConn) Close() error {
	c.once.Do(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, s := range c.streams {
			s.Close()
		}
		close(c.done)
	})
	return nil
}

func (c *fakeConn) Unattended() bool { return !c.attended }

func (c *fakeConn) Done() <-chan struct{} { return c.done }

func (c *fakeConn) closed() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// fakeHost is a host that is reached without a network, and its connections in the order they were made.
type fakeHost struct {
	*Host
	mu    sync.Mutex
	conns []*fakeConn // hold mu
}

func newFakeHost(t *testing.T, cfg Config) *fakeHost {
	t.Helper()
	cfg.Host = "fake"
	f := &fakeHost{Host: newHost(cfg)}
	f.dial = func(ctx context.Context, _ Config) (Conn, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		c := &fakeConn{done: make(chan struct{})}
		f.conns = append(f.conns, c)
		return c, ctx.Err()
	}
	t.Cleanup(func() {
		f.CloseIdle()
		for _, c := range f.conns {
			c.Close()
		}
	})
	return f
}

// session gives a session of h, which the test releases or leaves.
func session(t *testing.T, h *Host) *Session {
	t.Helper()
	s, err := h.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// here gives a session with a helper in this process.
func here(t *testing.T) *Session {
	t.Helper()
	s := session(t, newHost(Config{Host: Localhost}))
	t.Cleanup(s.close)
	return s
}

// usable proves that a session serves further requests.
func usable(t *testing.T, s *Session) {
	t.Helper()
	if e, err := s.Stat(t.Context(), "/"); err != nil || e.Kind != wire.KindDir {
		t.Errorf("session is no longer usable: %+v, %v", e, err)
	}
}

// imageFile makes a file in the test's folder.
func imageFile(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func writeRequest(path string, size int64) *wire.Open {
	m := &wire.Open{Write: true, Lead: true, Size: size, Claim: wire.Claim{1}}
	m.Path = path
	return m
}

// fakeStream is the stream of a helper that the test plays.
type fakeStream struct {
	net.Conn
	diagnosis string
}

func (s fakeStream) Diagnosis() string { return s.diagnosis }

// played gives a session whose helper is played: after the greeting play has the helper's end of the stream.
func played(t *testing.T, play func(r *wire.Reader, w *wire.Writer, conn net.Conn)) *Session {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		r, w := wire.NewReader(far), wire.NewWriter(far)
		if w.WriteMagic() != nil || w.Write(helper.Hello()) != nil {
			return
		}
		if _, err := r.SkipTo(wire.Magic); err != nil {
			return
		}
		f, err := r.Next()
		if err != nil {
			return
		}
		f.Release()
		play(r, w, far)
	}()
	s, err := newSession(t.Context(), newHost(Config{Host: "fake"}), &connection{}, fakeStream{near, "it fell over"})
	if err != nil {
		t.Fatal(err)
	}
	s.drain = 200 * time.Millisecond
	t.Cleanup(func() {
		s.close()
		<-done
	})
	return s
}

// drain takes frames until the stream ends.
func drain(r *wire.Reader) {
	for {
		f, err := r.Next()
		if err != nil {
			return
		}
		f.Release()
	}
}
