package host

import (
	"context"
	"errors"
	"time"

	"github.com/rclone/rclone/fs"
	"golang.org/x/sync/errgroup"
)

// widenLimit is how long a second connection may take that nobody has asked for: at a distance
// of 150 ms one takes two seconds.
const widenLimit = 3 * time.Second

// Widen has n more helpers wait for those who call Host.Session next, over a second connection
// to the host of s. It is for those who will send much. Where the user has said how many
// connections there are, where somebody may be asked to log in, or where that was tried since
// the first connection was made, it does nothing, and all goes on over what there is when the
// second one cannot be had, or not within widenLimit.
//
// More than two brought nothing with two cores at each end, and firewalls count who connects
// too often.
func (s *Session) Widen(ctx context.Context, n int) {
	if s.conn == nil || !s.host.mayWiden(s.conn) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, widenLimit)
	defer cancel()
	if err := s.host.widen(ctx, s, n); err != nil {
		fs.Debugf(s.host, "going on with one connection: %v", err)
	}
}

// mayWiden tells whether to make a second connection beside first, and is true once.
func (h *Host) mayWiden(first *connection) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cfg.Connections > 0 || h.wide || len(h.conns) > 1 || !first.Unattended() {
		return false
	}
	h.wide = true
	return true
}

// errElsewhere is of a name that leads to several machines.
var errElsewhere = errors.New("the second connection leads to another machine, or to one that does not tell which it is")

// widen adds a connection with n idle sessions. It is not used before helpers on the machine of
// first have answered over it: a host may let in whom it then refuses to run anything.
func (h *Host) widen(ctx context.Context, first *Session, n int) error {
	dialled, err := h.dial(ctx, h.cfg)
	if err != nil {
		return err
	}
	conn := &connection{Conn: dialled, sessions: n}
	sessions := make([]*Session, n)
	g, working := errgroup.WithContext(ctx)
	for i := range sessions {
		g.Go(func() error {
			s, err := h.startOn(working, conn)
			sessions[i] = s
			if err == nil && !s.SameBoot(first) {
				err = errElsewhere
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		for _, s := range sessions {
			if s != nil {
				s.close()
			}
		}
		_ = conn.Close()
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns = append(h.conns, conn)
	h.idle = append(h.idle, sessions...)
	h.schedule()
	return nil
}
