package host

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// maxSessions is how many helpers may run over one connection: sshd accepts ten
// sessions by default, and the upload of a helper needs one.
const maxSessions = 8

// Host is a host where helpers run, with its connections and idle sessions. It
// is shared by all that reach the host in the same way.
type Host struct {
	name string
	cfg  Config
	dial func(context.Context, Config) (Conn, error) // Dial, except in tests

	limits limits

	mu       sync.Mutex
	conns    []*connection        // hold mu
	dialling *dialling            // nil when nobody dials; hold mu
	wide     bool                 // a second connection was tried, see Widen; hold mu
	idle     []*Session           // the one used last is at the end; hold mu
	timer    *time.Timer          // closes what is idle; hold mu
	lost     time.Time            // when a session broke last; hold mu
	said     map[string]time.Time // notices logged lately; hold mu
}

// connection is one connection and the number of sessions on it.
type connection struct {
	Conn
	sessions int // hold Host.mu
}

var (
	hostsMu sync.Mutex
	hosts   = map[string]*Host{} // by Config.Key; hold hostsMu
)

// Get returns the host that cfg reaches. It does not connect.
func Get(cfg Config) *Host {
	hostsMu.Lock()
	defer hostsMu.Unlock()
	key := cfg.Key()
	h := hosts[key]
	if h == nil {
		h = newHost(cfg)
		hosts[key] = h
	}
	return h
}

func newHost(cfg Config) *Host {
	return &Host{name: cfg.Host, cfg: cfg, dial: Dial, limits: newLimits(cfg)}
}

// String is the name of the host as the user gave it, for messages.
func (h *Host) String() string { return h.name }

// Address is the name with the port where one was given: two ports of one name
// may be two hosts, behind tunnels.
func (h *Host) Address() string {
	if h.cfg.Port == "" {
		return h.name
	}
	return net.JoinHostPort(h.name, h.cfg.Port)
}

// Session returns an idle session, or a new one.
func (h *Host) Session(ctx context.Context) (*Session, error) {
	if s := h.takeIdle(); s != nil {
		return s, nil
	}
	if h.cfg.Host == Localhost && !h.cfg.Sudo {
		return newSession(ctx, h, nil, serveHere())
	}
	conn, err := h.connect(ctx)
	if err != nil {
		return nil, err
	}
	s, err := h.startOn(ctx, conn)
	if err != nil {
		h.noteLost(err)
		h.leave(conn)
	}
	return s, err
}

// startOn starts a helper over conn.
func (h *Host) startOn(ctx context.Context, conn *connection) (*Session, error) {
	stream, err := conn.Start(ctx)
	if err != nil {
		return nil, err
	}
	return newSession(ctx, h, conn, stream)
}

// takeIdle returns an idle session that is alive, or nil.
func (h *Host) takeIdle() *Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.idle) > 0 {
		s := h.idle[len(h.idle)-1]
		h.idle = h.idle[:len(h.idle)-1]
		if s.alive() {
			return s
		}
		go h.discard(s)
	}
	return nil
}

// connect returns a connection with room for one more session, which it counts.
// Sessions are spread over cfg.Connections connections, 0 being one; more are made only when
// those are full. One dials at a time, without the lock; who needs a connection
// meanwhile waits for that one and shares its failure.
func (h *Host) connect(ctx context.Context) (*connection, error) {
	var failed error // of dialling: then any connection with room will do
	for {
		h.mu.Lock()
		h.forgetLost()
		best := h.roomiest()
		spread := best != nil && best.sessions > 0 && len(h.conns) < h.cfg.Connections
		if best != nil && (!spread || h.dialling != nil || failed != nil) {
			best.sessions++
			h.mu.Unlock()
			return best, nil
		}
		if failed != nil {
			h.mu.Unlock()
			return nil, failed
		}
		if h.dialling == nil {
			h.dialling = &dialling{done: make(chan struct{})}
			go h.dialOne(context.WithoutCancel(ctx), h.dialling)
		}
		d := h.dialling
		h.mu.Unlock()
		select {
		case <-d.done:
			failed = d.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// roomiest is the connection with the fewest sessions that can take one more, or
// nil. Hold mu.
func (h *Host) roomiest() (best *connection) {
	for _, c := range h.conns {
		if c.sessions < maxSessions && (best == nil || c.sessions < best.sessions) {
			best = c
		}
	}
	return best
}

// dialling is an attempt to connect. err is valid when done is closed.
type dialling struct {
	done chan struct{}
	err  error
}

func (h *Host) dialOne(ctx context.Context, d *dialling) {
	conn, err := h.dial(ctx, h.cfg)
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.err = err; err == nil {
		h.conns = append(h.conns, &connection{Conn: conn})
		h.schedule() // when nobody wants it any more
	}
	h.dialling = nil
	close(d.done)
}

// forgetLost drops connections that broke. Hold mu.
func (h *Host) forgetLost() {
	kept := h.conns[:0]
	for _, c := range h.conns {
		select {
		case <-c.Done():
		default:
			kept = append(kept, c)
		}
	}
	h.keep(kept)
}

// keep replaces the connections by those that are left. Hold mu.
func (h *Host) keep(conns []*connection) {
	clear(h.conns[len(conns):])
	h.conns = conns
	h.wide = h.wide && len(conns) > 0
}

// leave uncounts a session that ended.
func (h *Host) leave(c *connection) {
	if c == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c.sessions--
	h.schedule()
}

// discard closes a session.
func (h *Host) discard(s *Session) {
	if s.isLost() {
		h.mu.Lock()
		h.lost = time.Now()
		h.mu.Unlock()
	}
	s.close()
	h.leave(s.conn)
}

// noteLost notes that a connection broke, which may show first when it is used for
// one more session.
func (h *Host) noteLost(err error) {
	var he *Error
	if !errors.As(err, &he) || he.Kind != KindLost {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = time.Now()
}

// LostLately tells whether a session broke within the last d: its helper may
// still run on the host and hold what it had open.
func (h *Host) LostLately(d time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.lost.IsZero() && time.Since(h.lost) < d
}

// release takes a session back, when it can serve another request.
func (h *Host) release(s *Session) {
	if !s.alive() {
		h.discard(s)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.idle = append(h.idle, s)
	h.schedule()
}

// schedule closes what is idle after the idle timeout. Hold mu.
func (h *Host) schedule() {
	if h.cfg.IdleTimeout <= 0 {
		return
	}
	if h.timer == nil {
		h.timer = time.AfterFunc(time.Duration(h.cfg.IdleTimeout), h.CloseIdle)
	}
	h.timer.Reset(time.Duration(h.cfg.IdleTimeout))
}

// CloseIdle closes idle sessions, and connections that have none.
func (h *Host) CloseIdle() {
	h.mu.Lock()
	idle := h.idle
	h.idle = nil
	h.mu.Unlock()
	var ended sync.WaitGroup // all wait for the same round trip
	for _, s := range idle {
		ended.Go(func() { h.discard(s) })
	}
	ended.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := h.conns[:0]
	for _, c := range h.conns {
		if c.sessions > 0 {
			kept = append(kept, c)
		} else {
			c.Close()
		}
	}
	h.keep(kept)
}

// CloseIdle closes idle sessions and connections of all hosts.
func CloseIdle() {
	hostsMu.Lock()
	all := slices.Collect(maps.Values(hosts))
	hostsMu.Unlock()
	var closed sync.WaitGroup
	for _, h := range all {
		closed.Go(h.CloseIdle)
	}
	closed.Wait()
}
