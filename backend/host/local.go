package host

import (
	"context"
	"net"

	"github.com/rclone-blockdev/rclone-blockdev/helper"
)

// pipe is the byte stream of a helper in this process.
type pipe struct {
	net.Conn
	served chan struct{} // closed when the helper has ended
	err    error         // of the helper; valid after served
}

// serveHere starts a helper in this process and returns its stream.
func serveHere() *pipe {
	client, server := net.Pipe()
	p := &pipe{Conn: client, served: make(chan struct{})}
	go func() {
		defer close(p.served)
		p.err = helper.Serve(context.Background(), server, helper.Policy{})
	}()
	return p
}

// Close ends the helper and returns when it has ended.
func (p *pipe) Close() error {
	err := p.Conn.Close()
	<-p.served
	return err
}

// Diagnosis is what the helper said of its end.
func (p *pipe) Diagnosis() string {
	<-p.served
	if p.err != nil {
		return p.err.Error()
	}
	return "the helper in this process ended"
}
