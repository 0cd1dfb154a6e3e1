package host

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// endedConn is a connection whose other end has gone: what is written is taken all the same, as the kernel does.
type endedConn struct {
	net.Conn
}

func (endedConn) Read([]byte) (int, error)    { return 0, io.EOF }
func (endedConn) Write(p []byte) (int, error) { return len(p), nil }
func (endedConn) Close() error                { return nil }

// Who has seen the end of a connection cannot write to it: nobody would answer.
func TestCoalescer_AfterTheEnd(t *testing.T) {
	harness.Goroutines(t)
	c := newCoalescer(endedConn{})
	defer c.Close()
	if _, err := c.Write([]byte("before")); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	if _, err := c.Write([]byte("after")); err != io.EOF {
		t.Errorf("what nobody reads was taken: %v", err)
	}
}

// tcpPair is a connection and its other end. Both ends of SSH write first, which a pipe does not take.
func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// A command that is started when the connection ends does not wait for an answer, also where the SSH library does.
func TestNative_run_lost(t *testing.T) {
	harness.Goroutines(t)
	near, far := tcpPair(t)
	key := harness.NewKey(t, t.TempDir(), "host", "")
	asked := make(chan struct{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		config := &ssh.ServerConfig{NoClientAuth: true}
		config.AddHostKey(key.Signer)
		_, channels, requests, err := ssh.NewServerConn(far, config)
		if err != nil {
			t.Error(err)
			close(asked)
			return
		}
		go ssh.DiscardRequests(requests)
		<-channels // which gets no answer
		close(asked)
		for range channels {
		}
	}()
	conn, channels, requests, err := ssh.NewClientConn(near, "host", &ssh.ClientConfig{HostKeyCallback: ssh.FixedHostKey(key.Public)})
	if err != nil {
		t.Fatal(err)
	}
	n := &native{host: "fake", client: ssh.NewClient(conn, channels, requests), lost: make(chan struct{})}
	go func() {
		<-asked
		close(n.lost)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err = n.run(ctx, "helper")
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatal("it waits for what will not come")
	}
	wantError(t, err, KindLost, true, "fake", "lost")
	_ = n.client.Close() // which ends what the library waits for, here
	<-served
}
