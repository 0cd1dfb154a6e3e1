package host

import (
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// quickReads is the number of reads that a login and the start of a helper need,
// amply.
const quickReads = 64

// quickSetup makes the kernel acknowledge at once what arrives while a connection
// of d is set up. Else it waits up to 40 ms for something to send along, and each
// step of the setup waits for that. wrap must be called with the connection.
func quickSetup(d *net.Dialer) (wrap func(net.Conn) net.Conn) {
	c := &quickConn{}
	d.Control = c.control
	return func(conn net.Conn) net.Conn {
		c.Conn = conn
		return c
	}
}

type quickConn struct {
	net.Conn
	reads int // owned by the one who reads

	mu      sync.Mutex
	sockets []syscall.RawConn // of all attempts to connect; hold mu
}

func (c *quickConn) control(network, address string, socket syscall.RawConn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sockets = append(c.sockets, socket)
	return nil
}

// Read renews the setting, which the kernel forgets by itself, for the first reads.
func (c *quickConn) Read(p []byte) (int, error) {
	if c.reads < quickReads {
		c.reads++
		c.renew()
	}
	return c.Conn.Read(p)
}

func (c *quickConn) renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, socket := range c.sockets {
		_ = socket.Control(func(fd uintptr) { // where it fails, the setup is only slower
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
		})
	}
}
