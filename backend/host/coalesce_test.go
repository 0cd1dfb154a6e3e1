package host

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// countingConn counts writes, keeps what they wrote, and waits for each.
type countingConn struct {
	net.Conn
	pause time.Duration
	fail  int // the number of the write that fails

	mu     sync.Mutex
	writes int          // hold mu
	got    bytes.Buffer // hold mu
	closed chan struct{}
}

var errCable = errors.New("the cable is out")

func (c *countingConn) Write(p []byte) (int, error) {
	select {
	case <-time.After(c.pause):
	case <-c.closed:
		return 0, net.ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writes++; c.writes == c.fail {
		return 0, errCable
	}
	return c.got.Write(p)
}

func (c *countingConn) Close() error {
	close(c.closed)
	return nil
}

func TestCoalescer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		under := &countingConn{pause: time.Millisecond, closed: make(chan struct{})}
		c := newCoalescer(under)
		random := rand.New(rand.NewPCG(1, 2))
		var want []byte
		const pieces = 500
		for range pieces {
			p := make([]byte, random.IntN(40<<10))
			for i := range p {
				p[i] = byte(random.Uint32())
			}
			want = append(want, p...)
			if n, err := c.Write(p); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
			clear(p) // it may not be kept
			c.mu.Lock()
			if n := len(c.waiting); n > coalesceSize+40<<10 {
				t.Errorf("%d bytes wait", n)
			}
			c.mu.Unlock()
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(under.got.Bytes(), want) {
			t.Error("other bytes arrived")
		}
		if under.writes > pieces/4 {
			t.Errorf("%d writes for %d pieces", under.writes, pieces)
		}
		if _, err := c.Write([]byte("late")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestCoalescer_Fails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		under := &countingConn{fail: 3, closed: make(chan struct{})}
		c := newCoalescer(under)
		var err error
		for range 100 {
			if _, err = c.Write(make([]byte, coalesceSize)); err != nil {
				break
			}
		}
		if !errors.Is(err, errCable) {
			t.Errorf("got %v", err)
		}
		c.Close()
	})
}

// A peer that takes nothing does not keep Close, nor a Write that waits for room.
func TestCoalescer_Stuck(t *testing.T) {
	harness.Goroutines(t)
	near, far := net.Pipe()
	defer far.Close()
	c := newCoalescer(near)
	ended := make(chan error)
	go func() {
		for {
			if _, err := c.Write(make([]byte, 32<<10)); err != nil {
				ended <- err
				return
			}
		}
	}()
	go io.ReadFull(far, make([]byte, 1<<20))
	time.Sleep(10 * time.Millisecond)
	c.Close()
	if err := <-ended; err == nil {
		t.Error("no error")
	}
}
