package harness

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The relay holds at most this much per connection and direction, which bounds what a delay lets be in flight.
const (
	relayChunk = 32 << 10
	relayDepth = 512
)

// Relay stands between a client and a server on the loopback interface, counts the bytes in both directions and
// plays a bad network. All methods may be called at any time from any goroutine.
type Relay struct {
	listener net.Listener
	target   string
	done     chan struct{} // closed when the test ends
	wg       sync.WaitGroup

	up, down atomic.Int64
	accepted atomic.Int64 // connections since Reset
	turns    atomic.Int64
	upward   atomic.Bool  // the last bytes went up
	oneWay   atomic.Int64 // delay of each direction in nanoseconds
	rate     atomic.Int64 // bytes per second of each direction of each connection, 0 for no limit
	muted    atomic.Bool  // what servers say is lost
	cutAt    atomic.Int64 // Total at which the connections are cut once, 0 for never

	mu      sync.Mutex
	conns   map[net.Conn]struct{} // both ends of each connection, hold mu
	closed  bool                  // no further connection is taken up, hold mu
	refuse  bool                  // hold mu
	flowing chan struct{}         // closed while bytes may pass, hold mu to read or replace
}

// NewRelay listens on a port of its own for connections to target, host:port. It ends with the test.
func NewRelay(t testing.TB, target string) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{
		listener: l, target: target, done: make(chan struct{}),
		conns: map[net.Conn]struct{}{}, flowing: make(chan struct{}),
	}
	close(r.flowing)
	r.wg.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

// Addr is host:port of the relay.
func (r *Relay) Addr() string { return r.listener.Addr().String() }

// Port is the port of the relay on 127.0.0.1.
func (r *Relay) Port() int { return r.listener.Addr().(*net.TCPAddr).Port }

// Up counts the bytes that came from clients, TCP payload only.
func (r *Relay) Up() int64 { return r.up.Load() }

// Down counts the bytes that came from the server, TCP payload only.
func (r *Relay) Down() int64 { return r.down.Load() }

// Total is Up plus Down.
func (r *Relay) Total() int64 { return r.Up() + r.Down() }

// Accepted counts the connections that clients have made.
func (r *Relay) Accepted() int64 { return r.accepted.Load() }

// Open counts the connections that there are now.
func (r *Relay) Open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns) / 2
}

// Turns counts how often clients spoke after a server did: an upper bound for the round trips of a client that
// waits for each answer.
func (r *Relay) Turns() int64 { return r.turns.Load() }

// Reset sets the counters to zero and forgets CutAfter.
func (r *Relay) Reset() {
	r.cutAt.Store(0)
	r.accepted.Store(0)
	r.up.Store(0)
	r.down.Store(0)
	r.turns.Store(0)
}

// Delay holds back each direction for half of the round-trip time, without limiting the bandwidth.
func (r *Relay) Delay(rtt time.Duration) { r.oneWay.Store(int64(rtt / 2)) }

// Trickle lets that many bytes per second pass in each direction of each connection, and 0 any number.
func (r *Relay) Trickle(rate int64) { r.rate.Store(rate) }

// Cut resets all present connections as a broken network does. New ones are served.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		reset(c)
	}
}

// reset ends a connection so that its other end sees an error, not the end of a stream.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a closed connection
	}
	c.Close()
}

// CutAfter cuts once when Total reaches n bytes, and so breaks a transfer at a place that can be repeated.
func (r *Relay) CutAfter(n int64) { r.cutAt.Store(n) }

// Refuse makes the relay close new connections at once, until it is called with false.
func (r *Relay) Refuse(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = on
}

// Mute loses all that servers say from now on, while clients are heard, until it is called with false. Connections that
// it is called for are of no more use: Cut them.
func (r *Relay) Mute(on bool) { r.muted.Store(on) }

// Stall stops all bytes while the connections stay open, until it is called with false.
func (r *Relay) Stall(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.flowing:
		if on {
			r.flowing = make(chan struct{})
		}
	default:
		if !on {
			close(r.flowing)
		}
	}
}

func (r *Relay) close() {
	close(r.done)
	r.listener.Close()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.Cut()
	r.wg.Wait()
}

func (r *Relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.accepted.Add(1)
		r.wg.Go(func() { r.serve(client) })
	}
}

// serve joins a client to the target until both directions have ended.
func (r *Relay) serve(client net.Conn) {
	defer client.Close()
	r.mu.Lock()
	refuse := r.refuse
	r.mu.Unlock()
	if refuse {
		return
	}
	server, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	defer server.Close()
	if !r.register(client, server) {
		return
	}
	defer r.forget(client, server)
	var both sync.WaitGroup
	both.Go(func() { r.pass(server, client, &r.up) })
	both.Go(func() { r.pass(client, server, &r.down) })
	both.Wait()
}

func (r *Relay) register(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		r.conns[c] = struct{}{}
	}
	return !r.closed
}

func (r *Relay) forget(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		delete(r.conns, c)
	}
}

// parcel is bytes on their way, with the time before which they must not arrive.
type parcel struct {
	buf []byte
	due time.Time
}

// pass moves bytes one way. Reading and writing are apart so that a delay does not become a limit.
func (r *Relay) pass(dst, src net.Conn, count *atomic.Int64) {
	parcels := make(chan parcel, relayDepth)
	free := make(chan []byte, relayDepth)
	var reader sync.WaitGroup
	var readErr error // owned by the reader until it has ended
	reader.Go(func() {
		defer close(parcels)
		for {
			buf := pick(free)
			n, err := src.Read(buf)
			if n > 0 {
				r.count(count, int64(n))
				parcels <- parcel{buf[:n], time.Now().Add(time.Duration(r.oneWay.Load()))}
				r.checkCut()
			}
			if err != nil {
				readErr = err
				return
			}
		}
	})
	ok := true
	for p := range parcels {
		if count != &r.down || !r.muted.Load() {
			ok = ok && r.deliver(dst, p)
		}
		if !ok {
			src.Close() // ends the reader, whose remaining parcels are dropped
		}
		select {
		case free <- p.buf[:cap(p.buf)]:
		default:
		}
	}
	reader.Wait()
	tcp, isTCP := dst.(*net.TCPConn)
	if readErr != io.EOF || !isTCP {
		reset(dst)
		return
	}
	_ = tcp.CloseWrite() // passes the end of the stream on; fails when dst is closed already
}

// count adds n bytes that arrived to one of the counters, and a turn where they go up after others went down.
func (r *Relay) count(direction *atomic.Int64, n int64) {
	direction.Add(n)
	up := direction == &r.up
	if r.upward.Swap(up) != up && up {
		r.turns.Add(1)
	}
}

func pick(free chan []byte) []byte {
	select {
	case buf := <-free:
		return buf
	default:
		return make([]byte, relayChunk)
	}
}

// deliver waits until the parcel is due and bytes may pass, then writes it.
func (r *Relay) deliver(dst io.Writer, p parcel) bool {
	wait := time.Until(p.due)
	if rate := r.rate.Load(); rate > 0 {
		wait = max(wait, time.Duration(len(p.buf))*time.Second/time.Duration(rate))
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-r.done:
			return false
		}
	}
	r.mu.Lock()
	flowing := r.flowing
	r.mu.Unlock()
	select {
	case <-flowing:
	case <-r.done:
		return false
	}
	_, err := dst.Write(p.buf)
	return err == nil
}

func (r *Relay) checkCut() {
	at := r.cutAt.Load()
	if at > 0 && r.Total() >= at && r.cutAt.CompareAndSwap(at, 0) {
		r.Cut()
	}
}
