package blockdev

import (
	"context"
	"strings"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// withLog is an undo or a recovery.
type withLog struct {
	at  place
	o   *Object // of the messages
	req func(which wire.Which) wire.Message
}

// logDir is the directory that the option dir names, by default that of an option of the
// remote. what is what it is of.
func logDir(at place, opt map[string]string, usual, what string) (string, error) {
	dir := usual
	if named, ok := opt["dir"]; ok {
		dir = named
	}
	if !strings.HasPrefix(dir, "/") {
		return "", refuse("%s: the directory of the %s is %q: name it with -o dir=DIR, an absolute path on the host", at, what, dir)
	}
	return dir, nil
}

// ask makes one request.
func (w *withLog) ask(ctx context.Context, which wire.Which) (found map[string]string, err error) {
	var all []wire.Property
	err = w.at.with(ctx, func(s *host.Session) error {
		all, err = s.Undo(ctx, w.req(which), func(done int64) { fs.Infof(nil, "%s: %v read", w.at, fs.SizeSuffix(done)) })
		return err
	})
	found = map[string]string{}
	for _, p := range all {
		found[p.Key] = p.Value
	}
	return found, err
}

// look asks what there is, or makes another request that changes nothing.
func (w *withLog) look(ctx context.Context, which wire.Which) (found map[string]string, err error) {
	err = w.at.again(ctx, func() error {
		found, err = w.ask(ctx, which)
		return err
	})
	return found, err
}

// do looks which log there is, and does what is to be done with that one. After a lost
// connection it is asked for again. If the log is gone then, from the same place, it was
// done: of an undo nobody could tell otherwise, and asked for again it would take back the
// copy before.
func (w *withLog) do(ctx context.Context) (found map[string]string, err error) {
	there, err := w.look(ctx, wire.Which{Look: true})
	if err != nil {
		return nil, err
	}
	lost, done := false, false
	try := func(ctx context.Context) error {
		if done {
			return nil
		}
		found, err = w.ask(ctx, wire.Which{Log: there["which"]})
		switch {
		case err != nil:
			lost = lost || isLost(err)
			return err
		case found["gone"] != "" && !lost:
			return refuse("%s: %s was there and is gone: somebody else is at it", w.at, there["log"])
		case found["gone"] != "" && found["place"] != there["place"]:
			return refuse("%s: whether all was done is not known: %s is not found, and the host, its disk or the target is another one than before: look there before anything else is done", w.at, there["log"])
		case found["gone"] != "":
			fs.Logf(w.o, "the answer to the last step was lost, and it was done: %s is gone", there["log"])
			found = there
		}
		done = true
		return nil
	}
	err = newResume(w.o).run(ctx, try, try)
	return found, err
}
