package host

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

func TestGet(t *testing.T) {
	a := Get(Config{Host: "pool-test", User: "root"})
	if b := Get(Config{Host: "pool-test", User: "root"}); a != b {
		t.Error("the same host twice")
	}
	if b := Get(Config{}.At("root@pool-test")); a != b {
		t.Error("a host that the path names is another one")
	}
	for _, c := range []Config{{Host: "pool-test"}, {Host: "pool-test", User: "root", Port: "2222"},
		{Host: "pool-test", User: "root", Sudo: true}, {Host: "pool-test", User: "root", Pass: "x"}} {
		if Get(c) == a {
			t.Errorf("%+v shares its connections", c)
		}
	}
}

func TestHost_Session_reuses(t *testing.T) {
	harness.Goroutines(t)
	h := newFakeHost(t, Config{Connections: 1})
	a, b := session(t, h.Host), session(t, h.Host)
	if a == b {
		t.Fatal("one session for two")
	}
	a.Release()
	if c := session(t, h.Host); c != a {
		t.Error("the idle session was not taken")
	}
	b.Release()
	a.Release()
	if c := session(t, h.Host); c != a {
		t.Error("not the session that was used last")
	}
	usable(t, a)
	a.Release()
	if n := len(h.conns); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestHost_Session_discardsUnfit(t *testing.T) {
	harness.Goroutines(t)
	for name, spoil := range map[string]func(s *Session){
		"lost": func(s *Session) {
			s.stream.Close()
			for range 1000 { // until the session has seen it
				if !s.alive() {
					return
				}
				time.Sleep(time.Millisecond)
			}
		},
		"open":    func(s *Session) { _, _ = s.OpenRead(t.Context(), imageFile(t, nil)) },
		"running": func(s *Session) { s.running = 1 },
	} {
		h := newFakeHost(t, Config{})
		s := session(t, h.Host)
		spoil(s)
		s.Release()
		if got := session(t, h.Host); got == s {
			t.Errorf("%s: the session was used again", name)
		} else {
			got.Release()
		}
		if n := h.Host.conns[0].sessions; n != 1 {
			t.Errorf("%s: %d sessions are counted", name, n)
		}
	}
	// It may also end while it is idle.
	h := newFakeHost(t, Config{})
	s := session(t, h.Host)
	s.Release()
	s.stream.Close()
	for range 1000 {
		if !s.alive() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	got := session(t, h.Host)
	if got == s {
		t.Error("a dead session was taken")
	}
	usable(t, got)
	got.Release()
}

func TestHost_connect(t *testing.T) {
	harness.Goroutines(t)
	for _, c := range []struct{ connections, sessions, want int }{
		{0, 1, 1}, {1, maxSessions, 1}, {1, maxSessions + 1, 2}, {1, 3*maxSessions + 1, 4},
		{3, 1, 1}, {3, 2, 2}, {3, 3, 3}, {3, 4, 3}, {3, 3*maxSessions + 1, 4},
	} {
		h := newFakeHost(t, Config{Connections: c.connections})
		var all []*Session
		for range c.sessions {
			all = append(all, session(t, h.Host))
		}
		if n := len(h.conns); n != c.want {
			t.Errorf("%d sessions with connections = %d: %d connections, want %d", c.sessions, c.connections, n, c.want)
		}
		least, most := c.sessions, 0
		for _, conn := range h.Host.conns {
			if conn.sessions > maxSessions {
				t.Errorf("%d sessions on one connection", conn.sessions)
			}
			least, most = min(least, conn.sessions), max(most, conn.sessions)
		}
		if c.sessions <= c.connections*maxSessions && most-least > 1 {
			t.Errorf("%d sessions with connections = %d: from %d to %d on one", c.sessions, c.connections, least, most)
		}
		for _, s := range all {
			s.Release()
		}
		h.CloseIdle()
	}
}

// A connection that broke is not used for new sessions.
func TestHost_connect_lost(t *testing.T) {
	harness.Goroutines(t)
	h := newFakeHost(t, Config{})
	a := session(t, h.Host)
	h.conns[0].Close()
	b := session(t, h.Host)
	usable(t, b)
	if len(h.conns) != 2 || len(h.Host.conns) != 1 {
		t.Errorf("%d connections, %d of them in use", len(h.conns), len(h.Host.conns))
	}
	a.Release()
	b.Release()
	if h.Host.conns[0].sessions != 1 {
		t.Errorf("%d sessions are counted", h.Host.conns[0].sessions)
	}
}

func TestHost_CloseIdle(t *testing.T) {
	harness.Goroutines(t)
	h := newFakeHost(t, Config{})
	busy, idle := session(t, h.Host), session(t, h.Host)
	idle.Release()
	h.CloseIdle()
	h.CloseIdle()
	if idle.alive() {
		t.Error("the idle session was kept")
	}
	usable(t, busy)
	if h.conns[0].closed() {
		t.Error("the connection of a session in use was closed")
	}
	busy.Release()
	h.CloseIdle()
	h.CloseIdle()
	if !h.conns[0].closed() || len(h.Host.conns) != 0 {
		t.Error("the idle connection was kept")
	}
	s := session(t, h.Host) // others connect anew
	usable(t, s)
	s.Release()
}

// ending is the stream of a helper that ends when all of them were told to.
type ending struct {
	helperStream
	told *sync.WaitGroup
}

func (s ending) Close() error {
	s.told.Done()
	s.told.Wait()
	return s.helperStream.Close()
}

// All sessions wait for the same round trip, not one for the other.
func TestHost_CloseIdle_AtOnce(t *testing.T) {
	harness.Goroutines(t)
	h := newFakeHost(t, Config{})
	var told sync.WaitGroup
	var all []*Session
	for range 4 {
		all = append(all, session(t, h.Host))
	}
	for _, s := range all {
		told.Add(1)
		s.stream = ending{s.stream, &told}
		s.Release()
	}
	ended := make(chan struct{})
	go func() { defer close(ended); h.CloseIdle() }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("a session waits for another one to end")
	}
}

func TestHost_IdleTimeout(t *testing.T) {
	harness.Goroutines(t)
	h := newFakeHost(t, Config{IdleTimeout: fs.Duration(100 * time.Millisecond)})
	s := session(t, h.Host)
	s.Release()
	for range 5 { // what is in use now and then stays
		time.Sleep(30 * time.Millisecond)
		again := session(t, h.Host)
		usable(t, again)
		again.Release()
	}
	if len(h.conns) != 1 {
		t.Errorf("%d connections", len(h.conns))
	}
	select {
	case <-h.conns[0].Done():
	case <-time.After(5 * time.Second):
		t.Error("the idle connection was kept")
	}
}

// A host that cannot be reached, or whose helper does not start, leaves nothing counted.
func TestHost_Session_fails(t *testing.T) {
	harness.Goroutines(t)
	h := newFakeHost(t, Config{})
	dial := h.dial
	h.dial = Dial
	h.cfg.Host = ""
	if _, err := h.Session(t.Context()); err == nil {
		t.Error("a session without a host")
	}
	h.dial, h.cfg.Host = dial, "fake"
	s := session(t, h.Host)
	s.Release()
	h.CloseIdle()
	if len(h.Host.conns) != 0 {
		t.Errorf("%d connections", len(h.Host.conns))
	}
}

func TestHost_Concurrent(t *testing.T) {
	harness.Goroutines(t)
	h := newFakeHost(t, Config{Connections: 2, IdleTimeout: fs.Duration(time.Millisecond)})
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			for range 20 {
				s, err := h.Session(t.Context())
				if err != nil {
					var he *Error // a connection may end while a session is being started on it
					if !errors.As(err, &he) {
						t.Error(err)
					}
					continue
				}
				usable(t, s)
				s.Release()
			}
		})
	}
	wg.Wait()
	// The timer may be closing the last ones at this moment.
	left := func() int {
		h.CloseIdle()
		h.Host.mu.Lock()
		defer h.Host.mu.Unlock()
		return len(h.Host.conns)
	}
	for end := time.Now().Add(10 * time.Second); left() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are kept", left())
		}
	}
}
