package blockdev

import (
	"context"
	"slices"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/accounting"
	"github.com/rclone/rclone/fs/hash"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
)

// Hash is the SHA-256 of the content, computed on the host that has it.
func (o *Object) Hash(ctx context.Context, t hash.Type) (string, error) {
	if t != hash.SHA256 {
		return "", hash.ErrUnsupported
	}
	at, err := o.fs.place(o.remote)
	if err != nil {
		return "", err
	}
	if at.host == nil {
		return "", errNoHost
	}
	done, err := at.host.Hashing(ctx, o.entry.Rotational)
	if err != nil {
		return "", err
	}
	defer done()
	var sum string
	err = at.ask(ctx, func(s *host.Session) error {
		if _, err := s.OpenRead(ctx, at.path); err != nil {
			return err
		}
		line := hashLine{ctx: ctx, o: o}
		digest, err := s.Hash(ctx, line.show)
		line.end()
		if err != nil {
			return err
		}
		sum = hexDigest(digest)
		return s.Close(ctx, false, 0)
	})
	return sum, err
}

// hashLine shows a hash that takes longer than a moment in rclone's progress,
// with percentage and speed.
type hashLine struct {
	ctx   context.Context
	o     *Object
	tr    *accounting.Transfer
	acc   *accounting.Account
	own   bool  // rclone has no line for this object
	shown int64 // bytes
}

// show is called with the bytes that are done, from time to time.
func (l *hashLine) show(done int64) {
	stats := accounting.Stats(l.ctx)
	if l.acc == nil {
		l.own = !isChecking(stats, l.o.Remote())
		l.tr = stats.NewCheckingTransferNoHistory(l.o, "hashing")
		l.acc = l.tr.Account(l.ctx, nil)
		l.acc.ServerSideTransferStart()
	}
	l.acc.AccountReadN(done - l.shown)
	stats.Bytes(l.shown - done) // nothing is transferred
	l.shown = done
}

// end removes the line. One of rclone's is ended by rclone, which counts the
// check.
func (l *hashLine) end() {
	switch {
	case l.acc == nil:
	case l.own:
		l.tr.Done(l.ctx, nil)
	default:
		l.acc.Done()
	}
}

// isChecking tells whether rclone shows a line for the check of remote.
func isChecking(stats *accounting.StatsInfo, remote string) bool {
	all, err := stats.RemoteStats(false)
	if err != nil {
		fs.Debugf(nil, "progress: %v", err)
		return false
	}
	names, _ := all["checking"].([]string)
	return slices.Contains(names, remote)
}
