package host

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/rclone/rclone/fs"
	"golang.org/x/crypto/ssh"
)

// keepaliveMisses is the number of intervals without any sign of life after which
// a connection counts as lost.
const keepaliveMisses = 3

// heartbeat asks the host for a sign of life and closes a dead connection.
type heartbeat struct {
	interval time.Duration // 0 for never
	wire     *meteredConn
}

// run returns when lost is closed, which it causes with abandon when the host is
// dead.
//
// On a slow line an answer may take minutes because data is queued before it,
// so any received byte counts as a sign of life.
func (h *heartbeat) run(client *ssh.Client, abandon func(), lost <-chan struct{}) {
	ticker := time.NewTicker(h.interval)
	defer ticker.Stop()
	var answer chan struct{}
	defer func() {
		if answer != nil {
			<-answer
		}
	}()
	received, misses := h.wire.received.Load(), 0
	for {
		select {
		case <-lost:
			return
		case <-ticker.C:
		}
		if now := h.wire.received.Load(); now != received {
			received, misses = now, 0
		} else if misses++; misses >= keepaliveMisses {
			fs.Debugf(nil, "ssh: no sign of life from %s, closing the connection", client.RemoteAddr())
			abandon()
			return
		}
		if answer == nil || isClosed(answer) {
			answer = make(chan struct{})
			go func() {
				defer close(answer)
				_, _, _ = client.SendRequest("keepalive@openssh.com", true, nil)
			}()
		}
	}
}

// meteredConn counts what arrives.
type meteredConn struct {
	net.Conn
	received atomic.Int64 // bytes
}

func (c *meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(int64(n))
	return n, err
}
