package host

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// Where much is sent, half of the sessions are on a second connection, unless somebody might be asked for it, or the
// user has said how many there are.
func TestSession_Widen(t *testing.T) {
	harness.Goroutines(t)
	for name, c := range map[string]struct {
		connections int  // the option
		attended    bool // somebody may be asked
		want        int  // sessions on a second connection
	}{
		"by itself":          {0, false, 2},
		"with an agent":      {0, true, 0},
		"the user wants one": {1, false, 0},
	} {
		h := newFakeHost(t, Config{Connections: c.connections})
		lead, idle := session(t, h.Host), session(t, h.Host)
		idle.Release() // goes after those of the second connection
		h.conns[0].attended = c.attended
		lead.Widen(t.Context(), 2)
		lead.Widen(t.Context(), 2) // once is enough
		all := []*Session{lead}
		second := 0
		for range 3 {
			s := session(t, h.Host)
			usable(t, s)
			if s.conn != lead.conn {
				second++
			}
			all = append(all, s)
		}
		if n := len(h.conns); second != c.want || n != 1+min(c.want, 1) {
			t.Errorf("%s: %d of 4 sessions on a second of %d connections, want %d", name, second, n, c.want)
		}
		for _, s := range all {
			s.Release()
		}
		h.CloseIdle()
		for _, conn := range h.conns {
			if !conn.closed() {
				t.Errorf("%s: a connection was kept", name)
			}
		}
		if h.wide {
			t.Errorf("%s: the next connection gets no second one", name)
		}
	}
}

// A second connection that cannot be had, or is of no use, is not tried again, and all goes on over the first one.
func TestSession_Widen_fails(t *testing.T) {
	harness.Goroutines(t)
	refused := errors.New("no more logins")
	for name, fail := range map[string]func(*gated, *Session){
		"refused": func(h *gated, lead *Session) {
			h.shut()
			go func() { h.answer <- refused }()
			lead.Widen(t.Context(), 2)
		},
		"silent until the work is done": func(h *gated, lead *Session) {
			ctx, cancel := context.WithCancel(t.Context())
			h.dial = func(ctx context.Context, _ Config) (Conn, error) {
				h.begun <- struct{}{}
				cancel()
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}
			lead.Widen(ctx, 2)
		},
		"lets in and starts nothing": func(h *gated, lead *Session) {
			h.dial = func(context.Context, Config) (Conn, error) {
				h.begun <- struct{}{}
				c := &fakeConn{done: make(chan struct{}), failure: refused}
				h.conns = append(h.conns, c)
				return c, nil
			}
			lead.Widen(t.Context(), 2)
		},
		"another machine": func(h *gated, lead *Session) {
			h.begun <- struct{}{}
			lead.Hello.BootID = "another"
			lead.Widen(t.Context(), 2)
		},
		"a machine that does not tell": func(h *gated, lead *Session) {
			h.begun <- struct{}{}
			lead.Hello.BootID = ""
			lead.Widen(t.Context(), 2)
		},
	} {
		h := newGated(t, Config{})
		lead := session(t, h.Host)
		quickly(t, name, func() {
			fail(h, lead)
			lead.Widen(t.Context(), 2)
		})
		s := session(t, h.Host)
		usable(t, s)
		if s.conn != lead.conn || len(h.Host.conns) != 1 {
			t.Errorf("%s: %d connections", name, len(h.Host.conns))
		}
		if n := len(h.begun); n != 1 {
			t.Errorf("%s: tried %d times", name, n)
		}
		for _, c := range h.conns[1:] {
			if !c.closed() {
				t.Errorf("%s: the second connection was left open", name)
			}
		}
		s.Release()
		lead.Release()
	}
}

// Nobody waits for a second connection for long.
func TestSession_Widen_limit(t *testing.T) {
	harness.Goroutines(t)
	h := newFakeHost(t, Config{})
	lead := session(t, h.Host)
	var limit time.Duration
	h.dial = func(ctx context.Context, _ Config) (Conn, error) {
		deadline, _ := ctx.Deadline()
		limit = time.Until(deadline)
		return nil, errors.New("not now")
	}
	lead.Widen(t.Context(), 2)
	if limit <= 0 || limit > widenLimit {
		t.Errorf("dialling may take %v", limit)
	}
	lead.Release()
}
