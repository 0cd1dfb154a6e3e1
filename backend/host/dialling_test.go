package host

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// gated is a fakeHost whose dialling waits for the test once it is shut.
type gated struct {
	*fakeHost
	begun  chan struct{} // one for each attempt while shut
	answer chan error    // ends one attempt while shut
}

func newGated(t *testing.T, cfg Config) *gated {
	t.Helper()
	return &gated{newFakeHost(t, cfg), make(chan struct{}, 10), make(chan error)}
}

func (g *gated) shut() {
	dial := g.dial
	g.dial = func(ctx context.Context, cfg Config) (Conn, error) {
		g.begun <- struct{}{}
		if err := <-g.answer; err != nil {
			return nil, err
		}
		return dial(ctx, cfg)
	}
}

// Who gives up waiting for a connection returns at once, and the connection serves the next one.
func TestHost_connect_cancelled(t *testing.T) {
	harness.Goroutines(t)
	h := newGated(t, Config{Connections: 1})
	h.shut()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	quickly(t, "a cancelled session", func() {
		for range 3 { // the later ones do not even begin
			if _, err := h.Session(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
	})
	quickly(t, "closing what is idle", h.CloseIdle)
	h.answer <- nil
	s := session(t, h.Host)
	usable(t, s)
	s.Release()
	if n := len(h.conns); n != 1 || len(h.begun) != 1 {
		t.Errorf("%d connections, dialled %d times", n, len(h.begun))
	}
}

// Several who need a connection share one attempt, and its failure.
func TestHost_connect_shared(t *testing.T) {
	harness.Goroutines(t)
	refused := errors.New("connection refused")
	for _, failure := range []error{refused, nil} {
		h := newGated(t, Config{Connections: 1})
		h.shut()
		const waiters = 4
		ctx := &waited{Context: t.Context(), waiting: make(chan struct{}, waiters)}
		var wg sync.WaitGroup
		for range waiters {
			wg.Go(func() {
				s, err := h.Session(ctx)
				if err != failure {
					t.Errorf("got %v, want %v", err, failure)
				}
				if err == nil {
					s.Release()
				}
			})
		}
		for range waiters {
			<-ctx.waiting
		}
		h.answer <- failure
		quickly(t, "waiting for one connection", wg.Wait)
		if n := len(h.begun); n != 1 {
			t.Errorf("%v: dialled %d times", failure, n)
		}
	}
}

// waited tells when somebody waits for it.
type waited struct {
	context.Context
	waiting chan struct{}
}

func (w *waited) Done() <-chan struct{} {
	select {
	case w.waiting <- struct{}{}:
	default:
	}
	return w.Context.Done()
}

// While an additional connection is being made, all others go on; when it fails, the one there is serves.
func TestHost_connect_additional(t *testing.T) {
	harness.Goroutines(t)
	for _, failure := range []error{errors.New("too many connections"), nil} {
		h := newGated(t, Config{Connections: 2})
		first := session(t, h.Host)
		h.shut()
		got := make(chan *Session, 1)
		go func() {
			s, err := h.Session(t.Context())
			if err != nil {
				t.Errorf("%v: %v", failure, err)
			}
			got <- s
		}()
		<-h.begun
		quickly(t, "working beside", func() {
			first.Release()
			again := session(t, h.Host)
			if again != first {
				t.Error("the idle session was not taken")
			}
			third := session(t, h.Host) // does not wait either
			usable(t, third)
			third.Release()
			again.Release()
			_ = h.LostLately(time.Second)
		})
		h.answer <- failure
		var s *Session
		quickly(t, "the additional session", func() { s = <-got })
		if s == nil {
			t.FailNow()
		}
		usable(t, s)
		if own := s.conn != first.conn; own != (failure == nil) {
			t.Errorf("%v: on a connection of its own: %v", failure, own)
		}
		s.Release()
	}
}
