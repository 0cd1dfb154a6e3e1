package host

import (
	"context"
	"io"
	"regexp"
	"strconv"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Facts is what Probe found out about a host.
type Facts struct {
	User  string     // who logs in; empty where the host does not tell
	Root  bool       // the helper runs as root
	Hello wire.Hello // of the helper that was started
}

// Probe connects to the host of cfg anew, starts the helper, which puts it there
// when it is missing, and closes all of it. Failures are of type *Error, with an
// *UnknownKeyError inside where only the host key is missing, or the error of ctx.
func Probe(ctx context.Context, cfg Config) (*Facts, error) {
	h := newHost(cfg)
	defer h.CloseIdle()
	found := &Facts{}
	h.dial = func(ctx context.Context, cfg Config) (Conn, error) {
		conn, err := Dial(ctx, cfg)
		if d, ok := conn.(*deployer); ok && err == nil {
			found.User, found.Root = identify(ctx, d.remote)
			d.cfg.User = first(found.User, cfg.User) // to be named when sudo refuses
		}
		return conn, err
	}
	s, err := h.Session(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Release()
	found.Hello = s.Hello
	found.Root = found.Root || cfg.Sudo
	return found, nil
}

const (
	identifyTime = 10 * time.Second // slow login scripts run first
	identifySize = 64 << 10         // what a login may print before
)

var idLine = regexp.MustCompile(`(?m)^uid=(\d+)(?:\(([^)\s]+)\))?`)

// identify asks the host who has logged in. Behind a forced command the helper
// answers instead, and ends with its input; then nothing is known.
func identify(ctx context.Context, r remote) (user string, root bool) {
	p, err := r.run(ctx, "id")
	if err != nil {
		return "", false // starting the helper will say why
	}
	defer p.stop()
	defer time.AfterFunc(identifyTime, p.kill).Stop()
	defer context.AfterFunc(ctx, p.kill)()
	_ = p.stdin.Close()
	said, _ := io.ReadAll(io.LimitReader(p.stdout, identifySize))
	match := idLine.FindSubmatch(said)
	if match == nil {
		return "", false
	}
	uid, err := strconv.ParseUint(string(match[1]), 10, 64)
	return oneLine(string(match[2]), 100), err == nil && uid == 0
}
