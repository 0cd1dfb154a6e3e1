package host

import "context"

// Widen says that much will be sent: further sessions are spread over more connections than
// one, unless the user has said over how many. It holds until the last connection is closed.
func (h *Host) Widen() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wide = true
}

// wideConnections is how many connections carry the sessions of a host where much is sent. More
// brought nothing with two cores at each end, and firewalls count who connects too often.
const wideConnections = 2

// width is over how many connections sessions are spread. Nobody is asked for another one who
// has not said so, as by an agent that wants its user to touch a key. Hold mu.
func (h *Host) width() int {
	switch {
	case h.cfg.Connections > 0:
		return h.cfg.Connections
	case h.wide && len(h.conns) > 0 && h.conns[0].Unattended():
		return wideConnections
	}
	return 1
}

// connect returns a connection with room for one more session, which it counts.
// Sessions are spread over as many connections as width says; more are made only
// when those are full. One dials at a time, without the lock; who needs a connection
// meanwhile waits for that one and shares its failure, and who needs it only for the
// spread goes without when as many wait already as a present one has sessions.
func (h *Host) connect(ctx context.Context) (*connection, error) {
	var failed error // of dialling: then any connection with room will do
	for {
		h.mu.Lock()
		h.forgetLost()
		best := h.roomiest()
		spread := best != nil && best.sessions > 0 && len(h.conns) < h.width()
		enough := h.dialling != nil && best != nil && best.sessions <= h.dialling.waiting
		if best != nil && (!spread || enough || failed != nil) {
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
		d.waiting++
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
	done    chan struct{}
	err     error
	waiting int // who wants it; hold Host.mu
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
