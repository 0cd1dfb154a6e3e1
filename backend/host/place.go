package host

import (
	"context"
	"io"
	"path"
	"strings"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Deployed is a helper on a host.
type Deployed struct {
	Path     string
	Platform string // as in linux/amd64
	SHA256   string // in hex
	Stored   bool   // it was not there before
}

// Deploy puts the helper on the host, unless it is there.
func (h *Host) Deploy(ctx context.Context) (placed Deployed, err error) {
	switch {
	case h.cfg.Host == Localhost && !h.cfg.Sudo:
		return placed, refuse(h.name, "deploy", KindConfig, "this machine needs no helper: it is part of this program")
	case h.cfg.HelperPath != "":
		return placed, refuse(h.name, "deploy", KindConfig, "helper_path names a helper that is installed: leave it blank to have one deployed")
	}
	err = h.withDeployer(ctx, func(d *deployer) error {
		placed, err = d.place(ctx)
		return err
	})
	return placed, err
}

// Undeploy removes all helpers that were ever put on the host, of any release, and
// returns their paths.
func (h *Host) Undeploy(ctx context.Context) (removed []string, err error) {
	if h.cfg.Host == Localhost && !h.cfg.Sudo {
		return nil, refuse(h.name, "undeploy", KindConfig, "this machine needs no helper: it is part of this program")
	}
	err = h.withDeployer(ctx, func(d *deployer) error {
		removed, err = d.remove(ctx)
		return err
	})
	return removed, err
}

// withDeployer calls fn with a connection, which counts as one session.
func (h *Host) withDeployer(ctx context.Context, fn func(*deployer) error) error {
	conn, err := h.connect(ctx)
	if err != nil {
		return err
	}
	defer h.leave(conn)
	d, ok := conn.Conn.(*deployer)
	if !ok {
		return refuse(h.name, "deploy", KindConfig, "helpers cannot be put on this host")
	}
	return fn(d)
}

// place finds the helper of this release on the host, or puts it there.
func (d *deployer) place(ctx context.Context) (Deployed, error) {
	entries, err := d.entries()
	if err != nil {
		return Deployed{}, refuse(d.cfg.Host, "deploy", KindDeploy, "%w", err)
	}
	uploads := d.uploadCount()
	for stored := false; ; stored = true {
		stream, answer, err := d.attempt(ctx, findCommand(d.cfg, entries, stored || uploads > 0))
		switch {
		case err != nil:
			return Deployed{}, err
		case stream != nil:
			_ = stream.Close()
			return Deployed{}, d.forced("deploy")
		case answer.verb == replyFound:
			platform, file, _ := strings.Cut(answer.detail, " ")
			sum, _ := strings.CutPrefix(path.Base(file), "helper-")
			return Deployed{Path: file, Platform: platform, SHA256: sum, Stored: stored}, nil
		case stored:
			return Deployed{}, refuse(d.cfg.Host, "deploy", KindDeploy, "the helper was stored but is %s now: check that nothing cleans its directory, or set helper_dir", answer.verb)
		}
		if err := d.provide(ctx, answer, uploads); err != nil {
			return Deployed{}, err
		}
	}
}

// remove runs the script that removes helpers. What it says counts only when it
// came to its end.
func (d *deployer) remove(ctx context.Context) (removed []string, err error) {
	p, err := d.remote.run(ctx, removeCommand(d.cfg))
	if err != nil {
		return nil, d.failed(ctx, nil, err)
	}
	defer p.stop()
	defer context.AfterFunc(ctx, p.kill)()
	_ = p.stdin.Close() // a helper that answers instead ends
	said, err := io.ReadAll(io.LimitReader(p.stdout, 4*wire.MaxPreamble))
	if err != nil {
		return nil, d.failed(ctx, p, err)
	}
	var kept []string
	for r := range replies(said) {
		switch r.verb {
		case replyRemoved:
			removed = append(removed, r.detail)
		case replyKept:
			kept = append(kept, r.detail)
		case replyEnd:
			if len(kept) > 0 {
				return removed, refuse(d.cfg.Host, "undeploy", KindDeploy, "could not remove %s: %s", strings.Join(kept, ", "), oneLine(p.stderr.String(), 200))
			}
			return removed, nil
		}
	}
	if strings.Contains(string(said), wire.Magic) {
		return nil, d.forced("undeploy")
	}
	return nil, d.failed(ctx, p, errSilent)
}

// forced is the refusal of a host that starts a helper whatever it is asked to run.
func (d *deployer) forced(op string) error {
	return refuse(d.cfg.Host, op, KindDeploy, "the host always runs a helper of its own, as with a forced command: none can be put there or taken away")
}
