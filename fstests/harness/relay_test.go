package harness

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echoServer answers each byte and ends a connection when its client has closed its side.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c) // a reset by the test is no error
				c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, r *Relay) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func echo(t *testing.T, c *net.TCPConn, data []byte) {
	t.Helper()
	go func() { _, _ = c.Write(data) }() // the read below notices what is missing
	got := make([]byte, len(data))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Fatal("the relay changed the bytes")
	}
}

func TestRelay_counts(t *testing.T) {
	Goroutines(t)
	r := NewRelay(t, echoServer(t))
	c := dial(t, r)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	echo(t, c, data)
	if want := int64(len(data)); r.Up() != want || r.Down() != want || r.Total() != 2*want {
		t.Errorf("up %d, down %d, want %d each", r.Up(), r.Down(), want)
	}
	if r.Accepted() != 1 || r.Open() != 1 {
		t.Errorf("%d connections accepted, %d open, want 1 each", r.Accepted(), r.Open())
	}
	r.Reset()
	if r.Total() != 0 || r.Accepted() != 0 || r.Open() != 1 {
		t.Errorf("after Reset: %d bytes, %d connections accepted, %d open", r.Total(), r.Accepted(), r.Open())
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after closing one side: %d bytes, %v, want EOF", n, err)
	}
}

func TestRelay_Cut(t *testing.T) {
	Goroutines(t)
	r := NewRelay(t, echoServer(t))
	c := dial(t, r)
	echo(t, c, []byte("before"))
	r.Cut()
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("read after the cut: %v, want a reset", err)
	}
	echo(t, dial(t, r), []byte("a new connection"))

	r.Reset()
	r.CutAfter(1 << 20)
	c = dial(t, r)
	go func() { _, _ = c.Write(make([]byte, 8<<20)) }() // fails by the cut
	// The error of the reset goes to the writer or to the reader, whichever asks first.
	if n, _ := io.Copy(io.Discard, c); n > 2<<20 {
		t.Errorf("%d bytes came through in spite of the cut", n)
	}
	echo(t, dial(t, r), make([]byte, 2<<20))

	r.Refuse(true)
	c = dial(t, r)
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a refused connection carries bytes")
	}
	r.Refuse(false)
	echo(t, dial(t, r), []byte("again"))
}

func TestRelay_Stall(t *testing.T) {
	Goroutines(t)
	r := NewRelay(t, echoServer(t))
	c := dial(t, r)
	echo(t, c, []byte("before"))
	r.Stall(true)
	if _, err := c.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 4)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes and %v from a stalled relay", n, err)
	}
	r.Stall(false)
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "late" {
		t.Fatalf("after the stall: %q, %v", got, err)
	}
	r.Stall(true) // the end of the test must not wait for it
}

// TestRelay_Delay checks that a delay adds latency once, not once for each piece of a stream.
func TestRelay_Delay(t *testing.T) {
	Goroutines(t)
	r := NewRelay(t, echoServer(t))
	c := dial(t, r)
	const rtt = 100 * time.Millisecond
	r.Delay(rtt)
	start := time.Now()
	echo(t, c, []byte("ping"))
	if took := time.Since(start); took < rtt {
		t.Errorf("one byte came back after %v, want at least %v", took, rtt)
	}
	start = time.Now()
	echo(t, c, make([]byte, 16<<20))
	if took := time.Since(start); took > 20*rtt {
		t.Errorf("16 MiB took %v, so the delay limits the bandwidth", took)
	}
}

func TestRelay_turns(t *testing.T) {
	r := NewRelay(t, echoServer(t))
	c := dial(t, r)
	for range 3 {
		echo(t, c, []byte("a question and its answer"))
	}
	if got := r.Turns(); got != 3 {
		t.Errorf("%d turns, want 3", got)
	}
	r.Reset()
	echo(t, c, []byte("one more"))
	if got := r.Turns(); got != 1 {
		t.Errorf("%d turns after Reset, want 1", got)
	}
}
