package host

import (
	"context"
)

// Conn is a way to start helpers on one host.
type Conn interface {
	// Start runs the helper, putting it on the host first when it is missing,
	// and returns its byte stream. ctx limits the start only, not the stream.
	// Failures are of type *Error, or the error of ctx.
	Start(ctx context.Context) (*Stream, error)
	// Unattended tells that one more connection like this one asks nobody for anything.
	Unattended() bool
	// Close ends the streams and the connection.
	Close() error
	// Done is closed when the connection is lost or closed.
	Done() <-chan struct{}
}

// Dial connects to the host of cfg. Failures are of type *Error, or the error
// of ctx. ctx limits the dialling only.
//
// The host "localhost" with sudo runs the helper as a child process; with
// option ssh the ssh program makes the connections; in all other cases this
// process speaks SSH itself.
func Dial(ctx context.Context, cfg Config) (Conn, error) {
	if cfg.Host == "" {
		return nil, refuse(`""`, "connect", KindConfig, "no host is named: write blockdev:host/path or set the option host")
	}
	if err := checkWords(cfg); err != nil {
		return nil, err
	}
	switch {
	case cfg.Host == Localhost && cfg.Sudo:
		return newDeployer(cfg, newLocalShell(cfg)), nil
	case len(cfg.SSH) > 0:
		return newDeployer(cfg, newSSHProgram(cfg)), nil
	}
	remote, err := dialNative(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return newDeployer(cfg, remote), nil
}
