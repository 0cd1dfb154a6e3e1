package host

import (
	"cmp"
	"net"
	"sync"
	"time"
)

const (
	// coalesceSize is how many bytes may wait to be written, twice: the SSH
	// library writes each packet of 32 KiB in two pieces, and a system call for
	// each costs a fifth of the throughput.
	coalesceSize = 256 << 10
	// flushTime is how long Close waits for what was written to leave.
	flushTime = time.Second
)

// coalescer joins small writes to large ones. Write returns when there is room for
// its bytes; a goroutine writes all that waits at once. An error of that shows at
// the next Write.
type coalescer struct {
	net.Conn

	mu      sync.Mutex
	changed sync.Cond
	waiting []byte // hold mu
	err     error  // of a write or a read; hold mu
	closed  bool   // hold mu
	flushed chan struct{}
}

func newCoalescer(conn net.Conn) *coalescer {
	c := &coalescer{Conn: conn, flushed: make(chan struct{})}
	c.changed.L = &c.mu
	go c.flush()
	return c
}

// Write takes p.
func (c *coalescer) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.waiting) >= coalesceSize && c.err == nil && !c.closed {
		c.changed.Wait()
	}
	switch {
	case c.err != nil:
		return 0, c.err
	case c.closed:
		return 0, net.ErrClosed
	}
	c.waiting = append(c.waiting, p...)
	c.changed.Broadcast()
	return len(p), nil
}

// Read reads. When it fails, nothing can be written any more either: the SSH library
// would wait for ever for the answer to a channel that it opens at that very moment,
// after it has closed all that it knows of.
func (c *coalescer) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.fail(err)
	}
	return n, err
}

// fail makes later writes fail.
func (c *coalescer) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = cmp.Or(c.err, err)
	c.changed.Broadcast()
}

// flush writes what waits until that fails, or is all and c is closed.
func (c *coalescer) flush() {
	defer close(c.flushed)
	var out []byte
	for {
		c.mu.Lock()
		for len(c.waiting) == 0 && !c.closed {
			c.changed.Wait()
		}
		out, c.waiting = c.waiting, out[:0]
		c.changed.Broadcast()
		c.mu.Unlock()
		if len(out) == 0 {
			return
		}
		if _, err := c.Conn.Write(out); err != nil {
			c.fail(err)
			return
		}
	}
}

// Close lets what was written leave, for a short time, and closes the connection.
func (c *coalescer) Close() error {
	c.mu.Lock()
	c.closed = true
	c.changed.Broadcast()
	c.mu.Unlock()
	select {
	case <-c.flushed:
	case <-time.After(flushTime):
	}
	err := c.Conn.Close()
	<-c.flushed
	return err
}
