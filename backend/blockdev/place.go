package blockdev

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// place is where a remote leads: an absolute path on a host. Above the hosts
// there is none, and host is nil.
type place struct {
	host *host.Host
	path string
}

var errNoHost = fserrors.NoRetryError(errors.New(
	"no host is named: write blockdev:host/path, blockdev:localhost/path for this machine, or set the option host"))

// errNoPath is for a host where a device or image should be named.
var errNoPath = fserrors.NoRetryError(fmt.Errorf("%w: name a device or image on a host, as in blockdev:host/dev/sda", fs.ErrorIsDir))

// errNotSSH keeps a user or port of localhost from being overlooked: who writes
// them means another machine, behind a tunnel or in a container.
var errNotSSH = fserrors.NoRetryError(errors.New(
	"localhost is this machine, without SSH, and has neither user nor port: write 127.0.0.1 for an SSH server behind a local port"))

// place finds the host and the path of remote. It contacts nobody. Nothing in a
// path leads from one host to another.
func (f *Fs) place(remote string) (place, error) {
	full := remote
	if f.root != "" {
		full = f.root + "/" + remote
	}
	cfg := f.opt.Config
	if cfg.Host != "" {
		if strings.ContainsAny(cfg.Host, "@:[") { // as it is written in paths
			cfg = cfg.At(cfg.Host)
		}
		if cfg.Host == host.Localhost && (cfg.User != "" || cfg.Port != "") {
			return place{}, errNotSSH
		}
		return place{host.Get(cfg), f.absolute(full)}, nil
	}
	spec, rest, _ := strings.Cut(full, "/")
	switch spec {
	case "":
		if full == "" {
			return place{}, nil
		}
		return place{}, errNoHost
	case ".", "..":
		return place{}, errNoHost
	}
	cfg = cfg.At(spec)
	switch {
	case cfg.Host == "":
		return place{}, errNoHost
	case cfg.Host == host.Localhost && spec != host.Localhost:
		return place{}, errNotSSH
	}
	return place{host.Get(cfg), f.absolute(rest)}, nil
}

// absolute is the path on the host of a path below its root.
func (f *Fs) absolute(p string) string { return f.opt.Enc.FromStandardPath(path.Clean("/" + p)) }

// with calls fn with a session on the host of p. Errors come out as rclone
// wants them.
func (p place) with(ctx context.Context, fn func(*host.Session) error) error {
	if p.host == nil {
		return errNoHost
	}
	s, err := p.host.Session(ctx)
	if err != nil {
		return classify(err)
	}
	defer s.Release()
	return classify(fn(s))
}

// askTimes is how often a request that changes nothing is made: a connection that
// broke while it was idle shows that only when it is used.
const askTimes = 4

// ask is with for requests that change nothing: after a lost connection they are
// made again.
func (p place) ask(ctx context.Context, fn func(*host.Session) error) error {
	return p.again(ctx, func() error { return p.with(ctx, fn) })
}

// again calls fn until that does not fail for a lost connection, a few times. To
// connect anew is tried as often when the host was reached lately.
func (p place) again(ctx context.Context, fn func() error) error {
	pause := 100 * time.Millisecond
	for i := 1; ; i++ {
		err := fn()
		if i == askTimes || !fserrors.IsRetryError(err) || p.host == nil || !p.host.LostLately(lostClaim) {
			return err
		}
		fs.Debugf(p.host, "trying again: %v", err)
		select {
		case <-time.After(pause):
			pause *= 4
		case <-ctx.Done():
			return err
		}
	}
}

// stat describes what is at p, and the boot of its host.
func (f *Fs) stat(ctx context.Context, p place) (entry wire.Entry, err error) {
	err = p.ask(ctx, func(s *host.Session) error {
		entry, err = s.Stat(ctx, p.path)
		entry.ID = identity(s, entry)
		return err
	})
	return entry, err
}

// identity is an ID that is equal only for two names of one object, on any
// hosts; empty when that cannot be told.
func identity(s *host.Session, e wire.Entry) string {
	if s.Hello.BootID == "" || e.ID == "" {
		return ""
	}
	return s.Hello.BootID + "/" + e.ID
}

// classify gives err the class that decides what rclone does next: a refusal is
// never tried again, a lost connection is.
func classify(err error) error {
	var he *host.Error
	var we *wire.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &he) && he.Retryable:
		return fserrors.RetryError(err)
	case errors.As(err, &he):
		return fserrors.NoRetryError(err)
	case errors.Is(err, host.ErrUnreadable):
		// Trying again reads all of a failing disk once more, up to the same place.
		return fserrors.NoRetryError(fserrors.NoLowLevelRetryError(err))
	case !errors.As(err, &we):
		return err
	}
	switch we.Code {
	case wire.CodeNotFound, wire.CodeIsDir, wire.CodeNotEmpty, wire.CodeCancelled:
		return err
	case wire.CodeIO, wire.CodeCorrupted, wire.CodeInternal, wire.CodeProtocol, wire.CodeSource:
		return fserrors.NoLowLevelRetryError(err)
	}
	return fserrors.NoRetryError(err)
}

// refuse is a refusal of this end.
func refuse(format string, args ...any) error {
	return fserrors.NoRetryError(fmt.Errorf(format, args...))
}
