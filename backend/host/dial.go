package host

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fshttp"
	"golang.org/x/crypto/ssh"
)

// link is one SSH connection and the jump hosts that carry it.
type link struct {
	client *ssh.Client
	below  []*ssh.Client // jump hosts, the nearest first
	wire   *meteredConn

	// attended tells that another login may ask somebody, here or on the way: an agent had a
	// key to offer, which its user may have to confirm or to touch, a password was typed, which
	// may be for one time, or the host has asked questions, as those who send a code do.
	attended bool
}

func (k *link) close() {
	_ = k.client.Close()
	for i := len(k.below) - 1; i >= 0; i-- {
		_ = k.below[i].Close()
	}
}

// dialNative connects the built-in SSH to the host of cfg.
func dialNative(ctx context.Context, cfg Config) (*native, error) {
	k, err := connect(ctx, cfg, nil, 0)
	if err != nil {
		return nil, err
	}
	pulse := &heartbeat{interval: time.Duration(cfg.KeepAlive), wire: k.wire}
	return newNative(cfg.Host, k, pulse), nil
}

// handshake speaks SSH on a fresh connection and logs in. It closes raw when it
// fails. limit bounds everything but the time that the user takes to type.
func handshake(ctx context.Context, t *target, raw net.Conn, limit time.Duration) (*link, error) {
	keys, err := loadHostKeys(t)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	watch := watchHandshake(ctx, raw, limit)
	defer watch.stop()
	l := &login{t: t, prompt: watch.pause}
	defer l.close()
	methods, err := l.methods()
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	wire := &meteredConn{Conn: newCoalescer(raw)}
	// The library wraps some errors as text only, so the verdict on the host
	// key is kept here.
	var verdict error
	verified := false
	config := clientConfig(ctx, t, keys)
	config.Auth = methods
	config.HostKeyCallback = func(name string, remote net.Addr, key ssh.PublicKey) error {
		verdict = keys.verify(name, remote, key)
		verified = verdict == nil
		return verdict
	}
	conn, channels, requests, err := ssh.NewClientConn(wire, t.hostKeyName, config)
	if err != nil {
		return nil, handshakeError(l, watch, verdict, verified, err)
	}
	watch.stop()
	if watch.cause() != nil {
		_ = conn.Close()
		return nil, handshakeError(l, watch, nil, true, watch.cause())
	}
	fs.Debugf(t.name, "connected to %s, server %q, cipher %s", t.address(), conn.ServerVersion(), cipherOf(conn))
	return &link{client: ssh.NewClient(conn, channels, requests), attended: l.attended, wire: wire}, nil
}

// handshakeError tells apart why a handshake failed.
func handshakeError(l *login, watch *handshakeWatch, verdict error, verified bool, err error) error {
	var negotiation *ssh.AlgorithmNegotiationError
	switch name := l.t.name; {
	case verdict != nil:
		return verdict
	case errors.Is(watch.cause(), errTooSlow):
		return transient(name, "connect", KindTimeout, "%s: %w", l.t.address(), errTooSlow)
	case watch.cause() != nil:
		return watch.cause()
	case errors.As(err, &negotiation):
		return refuse(name, "connect", KindConfig, "%w: set ciphers, key_exchange, macs or host_key_algorithms to what the host offers", err)
	case isBroken(err):
		return transient(name, "connect", KindLost, "%s closed the connection during the handshake: check that it is an SSH server and not overloaded: %w", l.t.address(), err)
	case verified:
		return l.refused(err)
	default:
		return refuse(name, "connect", KindConnect, "%s does not speak SSH as expected: %w", l.t.address(), err)
	}
}

// isBroken tells a broken connection from an answer that we dislike.
func isBroken(err error) bool {
	var ne net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.As(err, &ne)
}

// fastCipher goes first: it is the fastest of the safe ones on processors with
// AES instructions, about three times chacha20-poly1305.
const fastCipher = ssh.CipherAES128GCM

func clientConfig(ctx context.Context, t *target, keys *hostKeys) *ssh.ClientConfig {
	c := &ssh.ClientConfig{User: t.user, ClientVersion: "SSH-2.0-" + versionWord(fs.GetConfig(ctx).UserAgent)}
	c.Ciphers = t.cfg.Ciphers
	if len(c.Ciphers) == 0 {
		safe := ssh.SupportedAlgorithms().Ciphers
		c.Ciphers = append([]string{fastCipher}, slices.DeleteFunc(safe, func(s string) bool { return s == fastCipher })...)
	}
	c.KeyExchanges = t.cfg.KeyExchange
	c.MACs = t.cfg.MACs
	c.HostKeyAlgorithms = t.cfg.HostKeyAlgorithms
	if len(c.HostKeyAlgorithms) == 0 {
		c.HostKeyAlgorithms = keys.algorithms()
	}
	return c
}

// versionWord makes a user agent fit for the SSH version line, which allows
// printable ASCII without spaces.
func versionWord(agent string) string {
	word := []byte(agent)
	for i, b := range word {
		if b <= ' ' || b >= 0x7f {
			word[i] = '_'
		}
	}
	return string(word[:min(len(word), 200)])
}

func cipherOf(conn ssh.Conn) string {
	if c, ok := conn.(ssh.AlgorithmsConnMetadata); ok {
		return c.Algorithms().Write.Cipher
	}
	return "unknown"
}

// dialTCP opens the connection with rclone's dialer, which obeys --bind,
// --contimeout, --timeout, --dscp and --bwlimit.
func dialTCP(ctx context.Context, t *target, limit time.Duration) (net.Conn, error) {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	dialer := fshttp.NewDialer(ctx)
	quick := quickSetup(&dialer.Dialer)
	raw, err := dialer.DialContext(ctx, "tcp", t.address())
	if errors.Is(ctx.Err(), context.Canceled) {
		if err == nil {
			_ = raw.Close()
		}
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, dialError(t.name, t.address(), err)
	}
	return quick(raw), nil
}

// dialLimit is the shorter of --contimeout and ConnectTimeout; 0 means none.
func dialLimit(ctx context.Context, t *target) time.Duration {
	limit := time.Duration(fs.GetConfig(ctx).ConnectTimeout)
	if t.dialTimeout > 0 && (limit <= 0 || t.dialTimeout < limit) {
		return t.dialTimeout
	}
	return limit
}
