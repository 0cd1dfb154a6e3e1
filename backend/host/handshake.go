package host

import (
	"context"
	"errors"
	"io"
	"time"
)

// handshakeWatch ends a handshake that takes too long or is no longer wanted by
// closing its connection.
type handshakeWatch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer // nil without a limit
	unhook func() bool
}

// errTooSlow and errFinished are the causes that end a watch, besides those of
// the caller's context.
var (
	errTooSlow  = errors.New("the SSH handshake took too long: check that an SSH server answers there, or raise --contimeout")
	errFinished = errors.New("internal error: the handshake is over")
)

func watchHandshake(ctx context.Context, raw io.Closer, limit time.Duration) *handshakeWatch {
	w := &handshakeWatch{}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.unhook = context.AfterFunc(w.ctx, func() { _ = raw.Close() })
	if limit > 0 {
		w.timer = time.AfterFunc(limit, func() { w.cancel(errTooSlow) })
	}
	return w
}

// pause lifts the limit, since a person is about to type.
func (w *handshakeWatch) pause() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// stop ends the watch. When it has struck before, the connection is closed and
// cause says why.
func (w *handshakeWatch) stop() {
	w.pause()
	w.unhook()
	w.cancel(errFinished)
}

// cause tells why the watch struck, nil when it did not.
func (w *handshakeWatch) cause() error {
	if err := context.Cause(w.ctx); !errors.Is(err, errFinished) {
		return err
	}
	return nil
}
