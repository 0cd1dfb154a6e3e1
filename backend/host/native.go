package host

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// native is the remote that speaks SSH in this process. One connection carries
// a channel for each command.
type native struct {
	host     string
	client   *ssh.Client
	attended bool           // see link
	lost     chan struct{}  // closed when the connection has ended
	below    []*ssh.Client  // jump hosts, the nearest first; closed when client has ended
	helper   sync.WaitGroup // goroutines of this connection
}

func newNative(host string, k *link, pulse *heartbeat) *native {
	n := &native{host: host, client: k.client, attended: k.attended, below: k.below, lost: make(chan struct{})}
	n.helper.Go(func() {
		defer close(n.lost)
		_ = n.client.Wait()
		n.closeBelow()
	})
	if pulse.interval > 0 {
		n.helper.Go(func() { pulse.run(n.client, n.abandon, n.lost) })
	}
	return n
}

func (n *native) close() error {
	n.abandon()
	n.helper.Wait()
	return nil
}

// abandon closes the connection, also when the host, or a jump host on the way,
// takes nothing any more. An error means that it was lost before, which is as good.
func (n *native) abandon() {
	n.closeBelow()
	_ = n.client.Close()
}

// closeBelow ends the connections to the jump hosts, also when nobody closes a
// connection that was lost. The nearest is the one that is a real connection, and
// the others end with it.
func (n *native) closeBelow() {
	for _, c := range n.below {
		_ = c.Close()
	}
}

func (n *native) done() <-chan struct{} { return n.lost }

// unattended implements remote.
func (n *native) unattended() bool { return !n.attended }

// run implements remote. When ctx ends first, the late channel is closed and
// the other commands on the connection go on. A connection that is lost is not
// waited for, whatever the SSH library makes of it.
func (n *native) run(ctx context.Context, command string) (*process, error) {
	type result struct {
		p   *process
		err error
	}
	ready := make(chan result, 1)
	go func() {
		p, err := startSession(n.client, command)
		if err == nil && (ctx.Err() != nil || isClosed(n.lost)) {
			p.kill()
		}
		ready <- result{p, err}
	}()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-n.lost:
		return nil, n.broken(ctx, errLost)
	case r := <-ready:
		if r.err != nil {
			return nil, n.broken(ctx, r.err)
		}
		return r.p, nil
	}
}

var errLost = errors.New("it ended while a command was started")

// openSession opens a channel. A host with a low MaxSessions needs a moment to
// free the channel of a command that has just ended, so a refusal is not taken
// for final at once.
func openSession(client *ssh.Client) (*ssh.Session, error) {
	for attempt := 1; ; attempt++ {
		session, err := client.NewSession()
		var full *ssh.OpenChannelError
		if attempt >= openAttempts || !errors.As(err, &full) {
			return session, err
		}
		time.Sleep(openPause)
	}
}

const (
	openAttempts = 6
	openPause    = 50 * time.Millisecond
)

func startSession(client *ssh.Client, command string) (*process, error) {
	session, err := openSession(client)
	if err != nil {
		return nil, err
	}
	stdin, err := session.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := session.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p := &process{stdin: stdin, stdout: stdout, stderr: &tail{}, exited: make(chan struct{})}
	session.Stderr = p.stderr
	p.kill = sync.OnceFunc(func() { _ = session.Close() })
	if err := session.Start(command); err != nil {
		p.kill()
		return nil, err
	}
	go func() {
		defer close(p.exited)
		p.status = session.Wait()
	}()
	return p, nil
}

// broken explains why a command could not be started.
func (n *native) broken(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var full *ssh.OpenChannelError
	if errors.As(err, &full) {
		return transient(n.host, "start helper", KindConnect,
			"the host allows no further session on this connection (%s): lower streams or raise MaxSessions of sshd", oneLine(full.Message, 100))
	}
	return transient(n.host, "start helper", KindLost, "the connection is lost: %w", err)
}

// explain implements remote: without an exit status the connection broke.
func (n *native) explain(p *process) *Error {
	var missing *ssh.ExitMissingError
	if p.wait(0) && errors.As(p.status, &missing) || isClosed(n.lost) {
		return transient(n.host, "start helper", KindLost, "the connection was lost")
	}
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
