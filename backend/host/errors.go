package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// Kind is the class of a failure to reach a host or to start its helper.
type Kind int

// The kinds of failure.
const (
	KindConfig  Kind = iota + 1 // an option or the ssh config asks for something impossible
	KindResolve                 // the name has no address
	KindConnect                 // refused or unreachable
	KindTimeout                 // no answer in time
	KindLost                    // the connection broke
	KindHostKey                 // unknown, changed or revoked host key
	KindAuth                    // no key or password was accepted
	KindProgram                 // the external ssh program failed
	KindDeploy                  // the helper could not be stored or run
	KindSudo                    // sudo refused
)

// Error is a failure to reach a host or to start its helper. Its text is one
// line with the host, the cause and what to do.
type Error struct {
	Host      string // as the user named it
	Op        string // what was tried: "connect", "log in", ...
	Kind      Kind
	Retryable bool // trying again later may help without changing anything
	Err       error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %v", e.Host, e.Op, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// refuse makes an error that no repetition can cure.
func refuse(host, op string, kind Kind, format string, args ...any) *Error {
	return &Error{Host: host, Op: op, Kind: kind, Err: fmt.Errorf(format, args...)}
}

// transient makes an error that may pass.
func transient(host, op string, kind Kind, format string, args ...any) *Error {
	return &Error{Host: host, Op: op, Kind: kind, Retryable: true, Err: fmt.Errorf(format, args...)}
}

// dialError explains why no TCP connection to address came about.
func dialError(host, address string, err error) error {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		e := refuse(host, "connect", KindResolve, "the name %q has no address: check the spelling, or add it to DNS, /etc/hosts or the ssh config: %w", dns.Name, err)
		e.Retryable = !dns.IsNotFound
		return e
	case errors.Is(err, syscall.ECONNREFUSED):
		return transient(host, "connect", KindConnect, "%s refuses connections: check that sshd runs there and that the port is right: %w", address, err)
	case isTimeout(err):
		return transient(host, "connect", KindTimeout, "no answer from %s in time: check the network and firewalls, or raise --contimeout: %w", address, err)
	}
	return transient(host, "connect", KindConnect, "cannot reach %s: %w", address, err)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// oneLine makes text of the other side fit for a message: printable, on one
// line, at most limit bytes, of which the last ones count most.
func oneLine(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case r < ' ' || r == 0x7f || r == '\uFFFD' || r >= 0x80 && r <= 0x9f:
			return -1
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > limit {
		text = "..." + strings.ToValidUTF8(text[len(text)-limit:], "")
	}
	return text
}
