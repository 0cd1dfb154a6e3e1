package host

import (
	"context"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxJumps bounds the jump hosts on the way to a host; more mean that the ssh
// config refers to itself.
const maxJumps = 8

// connect opens the SSH connection to the host of cfg, through its jump hosts.
// via, when not nil, replaces the ProxyJump that the ssh config has for it: a
// list of jumps is followed as written, and only its first host may have a
// ProxyJump of its own.
func connect(ctx context.Context, cfg Config, via []string, depth int) (*link, error) {
	t, err := resolve(cfg)
	if err != nil {
		return nil, err
	}
	if len(via) > 0 {
		t.jumps = via
	}
	limit := dialLimit(ctx, t)
	if len(t.jumps) == 0 {
		raw, err := dialTCP(ctx, t, limit)
		if err != nil {
			return nil, err
		}
		return handshake(ctx, t, raw, limit)
	}
	if depth >= maxJumps {
		return nil, refuse(t.name, "connect", KindConfig, "more than %d jump hosts: the ProxyJump entries of the ssh config form a loop", maxJumps)
	}
	last := len(t.jumps) - 1
	lower, err := connect(ctx, cfg.hop(t.jumps[last]), t.jumps[:last], depth+1)
	if err != nil {
		return nil, err
	}
	raw, err := dialThrough(ctx, lower.client, t, limit)
	if err != nil {
		lower.close()
		return nil, err
	}
	upper, err := handshake(ctx, t, raw, limit)
	if err != nil {
		lower.close()
		return nil, err
	}
	upper.below = append(lower.below, lower.client)
	upper.attended = upper.attended || lower.attended
	return upper, nil
}

// dialThrough opens a TCP connection from a jump host.
func dialThrough(ctx context.Context, jump *ssh.Client, t *target, limit time.Duration) (net.Conn, error) {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	raw, err := jump.DialContext(ctx, "tcp", t.address())
	if err == nil {
		return raw, nil
	}
	if ctx.Err() == context.Canceled {
		return nil, context.Cause(ctx)
	}
	return nil, transient(t.name, "connect", KindConnect, "the jump host %s does not reach %s: %w", jump.RemoteAddr(), t.address(), err)
}
