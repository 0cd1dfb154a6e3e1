package blockdev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// abortTime is how long closing may take after a transfer has failed.
const abortTime = 10 * time.Second

// lostClaim is how long after a lost connection a busy target may be due to it.
const lostClaim = time.Minute

// lease is a session with something open on it.
type lease struct {
	s      *host.Session
	opened *wire.Opened
	how    wire.ReadErrors // of a source: where it cannot be read
	before int64           // bytes on the wire when it began, or was asked last
	gone   bool            // s was given back

	around *user // what surrounds it
	made   int64 // of attach
}

// take opens something on a session of the host of p.
func take(ctx context.Context, p place, req *wire.Open) (*lease, error) {
	return takeWithin(ctx, p, req, nil, false)
}

// takeWithin is take within surroundings, which with follow must exist.
func takeWithin(ctx context.Context, p place, req *wire.Open, around *user, follow bool) (*lease, error) {
	s, err := p.host.Session(ctx)
	if err != nil {
		return nil, err
	}
	l := &lease{s: s, how: req.ReadErrors, before: s.Wire(), around: around}
	if l.made, err = around.attach(ctx, s, follow); err == nil {
		if l.opened, err = s.Open(ctx, req); err != nil && around != nil && s.Usable() {
			_ = s.Detach(ctx)
		}
	}
	if err != nil {
		s.Release()
		return nil, err
	}
	return l, nil
}

func openSource(ctx context.Context, from place) (*lease, error) {
	return openWithin(ctx, from, wire.ReadStop, nil, false)
}

// openWithin is openSource of what may have places that cannot be read, within
// surroundings, which with follow must exist.
func openWithin(ctx context.Context, from place, how wire.ReadErrors, around *user, follow bool) (l *lease, err error) {
	req := wire.Open{ReadErrors: how}
	req.Path = from.path
	err = from.again(ctx, func() error {
		l, err = takeWithin(ctx, from, &req, around, follow)
		return classify(err)
	})
	return l, err
}

// again opens what is open for reading once more, for one more stream.
func (l *lease) again(ctx context.Context) (*lease, error) {
	more, err := openWithin(ctx, place{l.s.Host(), l.opened.Path}, l.how, l.around, true)
	if err != nil {
		return nil, err
	}
	if l.s.Hello.BootID != more.s.Hello.BootID { // where numbers of devices may be the same
		err = fmt.Errorf("%s leads to another machine than before", l.s.Host())
	} else {
		err = l.same(more, false)
	}
	if err != nil {
		more.close()
		return nil, err
	}
	return more, nil
}

// same refuses another object than l. Numbers of devices are new after a restart of
// the host, so then only the size is compared.
func (l *lease) same(other *lease, anew bool) error {
	if other.opened.Size == l.opened.Size && (anew || other.opened.Entry.ID == l.opened.Entry.ID && other.made == l.made) {
		return nil
	}
	return wire.Errorf(wire.CodeSource, "%s: %s became another object while it was read", l.s.Host(), l.opened.Path)
}

// salvage collects what cannot be read from now on, where that is no error.
func (l *lease) salvage(found *gaps) {
	if l.how != wire.ReadStop {
		l.s.OnGaps(found.add)
	}
}

// wire is the number of bytes that crossed the network since take, or since it was
// asked last.
func (l *lease) wire() int64 {
	now := l.s.Wire()
	defer func() { l.before = now }()
	return now - l.before
}

// usable tells whether what is open can go on to be worked with.
func (l *lease) usable() bool { return !l.gone && l.s.Usable() }

// release gives the session back as it is. What is open is then left to the end of
// its helper: a new image stays under its hidden name.
func (l *lease) release() {
	if !l.gone {
		l.gone = true
		l.s.Release()
	}
}

// close gives the session back, what it wrote being durable or to be done again.
func (l *lease) close() (wire int64) {
	if l.gone {
		return l.wire()
	}
	ctx, cancel := context.WithTimeout(context.Background(), abortTime)
	defer cancel()
	if err := l.s.Close(ctx, false, 0); err != nil {
		fs.Debugf(nil, "closing: %v", err)
	}
	defer l.release()
	return l.wire()
}

// target is an object that is being written.
type target struct {
	o    *Object
	at   place
	req  wire.Open // what the leading session asked for
	lead *lease

	before wire.Entry // the target when it was opened first
	around *user      // hooks

	receipt *receipting // nil when none is wanted
	closed  func()      // called when it was given up; may be nil

	interrupted atomic.Bool // by a signal

	asked  bool        // the helper was asked to complete the target, and may have done it
	done   bool        // it has
	unsure atomic.Bool // nobody knows whether it has
	fresh  atomic.Bool // isNew, for who is told when a signal comes
}

// openTarget opens o for a source of size bytes. The helper refuses here, before
// anything is written.
func (o *Object) openTarget(ctx context.Context, size int64) (*target, error) {
	at, err := o.fs.place(o.remote)
	if err != nil {
		return nil, err
	}
	if at.host == nil {
		return nil, errNoHost
	}
	t := &target{o: o, at: at}
	t.req = wire.Open{Write: true, Lead: true, Size: size, IgnoreSize: fs.GetConfig(ctx).IgnoreSize}
	t.req.Path, t.req.Force, t.req.Kind = at.path, o.fs.opt.Force == at.path, o.entry.Kind
	t.req.Zero, t.req.Verify = wire.Zeroing(o.fs.opt.Zero), wire.Verification(o.fs.opt.Verify)
	if err := t.apply(); err != nil {
		return nil, once(ctx, err)
	}
	if t.req.Undo != "" || t.req.Apply == wire.ApplyReflink {
		rand.Read(t.req.Transfer[:])
	}
	rand.Read(t.req.Claim[:])
	if err := t.expect(); err != nil {
		return nil, once(ctx, err)
	}
	if t.around, err = o.fs.writing(at); err != nil {
		return nil, err
	}
	t.lead, err = t.claim(ctx)
	if err != nil {
		t.around.finish(false)
	}
	switch {
	case errors.Is(err, wire.CodeRefused), errors.Is(err, wire.CodeIdentity):
		return nil, once(ctx, err)
	case err != nil:
		return nil, err
	}
	t.before = t.lead.opened.Entry
	t.fresh.Store(t.isNew())
	if got := t.lead.opened.Size; got != size && !t.req.IgnoreSize {
		t.abort(nil)
		return nil, wire.Errorf(wire.CodeProtocol, "%s: the helper opened %s with %d bytes for a source of %d", at.host, at.path, got, size)
	}
	if have := o.entry.Size; o.entry.Kind == wire.KindFile && have != size && !t.req.IgnoreSize {
		fs.Infof(o, "the image has %d bytes and gets the %d of its source", have, size)
	}
	return t, nil
}

// claim opens the target. After a lost connection, which may show only now, it
// connects again, and waits for the helper that may still have the target open; for
// any other holder it does not.
func (t *target) claim(ctx context.Context) (*lease, error) {
	for end := time.Now().Add(lostClaim); ; {
		l, err := takeWithin(ctx, t.at, &t.req, t.around, false)
		passing := errors.Is(err, wire.CodeBusy) || isLost(err)
		if !passing || !t.at.host.LostLately(lostClaim) || time.Now().After(end) {
			return l, err
		}
		fs.Debugf(t.o, "after a lost connection: %v", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// reopen opens the target again where its connection was lost, under a new claim:
// the old one must be gone before, and who knew it may not write any more. void
// tells that what was done must be done again.
func (t *target) reopen(ctx context.Context, report *report) (void bool, err error) {
	old := t.lead
	if t.done || old.usable() {
		return false, nil
	}
	old.release()
	rand.Read(t.req.Claim[:])
	req := t.req
	req.Expect = "" // was there when it was opened first; its content has changed since
	if n := old.opened.Lasting; n > 0 && int(n) <= len(old.opened.IDs) {
		req.Pins = old.opened.IDs[:n]
	}
	again, err := takeWithin(ctx, t.at, &req, t.around, false)
	if err != nil {
		return false, err
	}
	void, err = t.same(again, len(req.Pins) > 0)
	if renamed, unknown := t.isRenamed(ctx, again, void || err != nil, report); renamed || unknown != nil {
		return false, unknown
	}
	if err != nil {
		again.release()
		return false, err
	}
	t.lead = again
	if void {
		t.asked = false
		t.unsure.Store(false)
	}
	t.keep(again)
	return void, nil
}

// same refuses a target that has become another one while nobody claimed it. proved
// tells that it has lasting identities, and that they are the same.
func (t *target) same(again *lease, proved bool) (void bool, err error) {
	old, now := t.lead.opened, again.opened
	device, anew := old.Entry.Kind == wire.KindBlock, restarted(t.lead.s, again.s)
	known := t.lead.s.Hello.BootID != ""
	switch {
	case now.Entry.Kind != old.Entry.Kind, now.Size != old.Size, now.Entry.ID != old.Entry.ID && !(anew && known):
		return false, refuse("%s:%s became another object while the connection was lost: look what it is, and run the same command again", t.at.host, t.at.path)
	case device && anew && known && !proved:
		return false, refuse("%s was restarted, and nothing tells whether %s is the same device as before: look, and run the same command again", t.at.host, t.at.path)
	case device:
		return false, nil
	}
	// The name of a new file may not have been durable before the restart. One that
	// takes no space has nothing in it that was written before.
	return anew || now.Entry.Allocated <= 0, nil
}

// streams is how many stripes are worked on at once. rotational tells that the
// source is.
func (t *target) streams(rotational bool) int {
	dst := t.lead.opened
	if !dst.Shared || dst.Entry.Rotational || rotational {
		return 1
	}
	return max(t.o.fs.opt.Streams, 1)
}

// follow opens source and target once more, for one more stream.
func (t *target) follow(ctx context.Context, source *lease) (src, dst *lease, err error) {
	if src, err = source.again(ctx); err != nil {
		return nil, nil, err
	}
	if dst, err = t.join(ctx); err != nil {
		src.close()
		return nil, nil, err
	}
	return src, dst, nil
}

// join opens the target once more.
func (t *target) join(ctx context.Context) (*lease, error) {
	req := t.req
	req.Lead, req.Path = false, t.lead.opened.Path
	req.Expect, req.Pins = "", nil // proved by the claim
	if t.isNew() {
		req.Undo, req.Apply, req.Spool, req.Transfer = "", wire.ApplyDirect, "", wire.Claim{} // it is what the leader opened
	}
	l, err := take(ctx, t.at, &req)
	if err == nil {
		t.keep(l)
	}
	return l, err
}

// abort ends a transfer that failed with err: what existed stays as it is now, a
// new image is removed. After a lost connection or a signal it stays under its hidden
// name, for the next try to go on from.
func (t *target) abort(err error) {
	if err != nil && (!t.isNew() || t.unsure.Load()) && !errors.Is(err, errReceipt) {
		fs.Errorf(t.o, "stopped before the end: %s", t.partly(sameCommand))
	}
	if isLost(err) || t.isNew() && t.interrupted.Load() {
		t.lead.release()
	}
	t.lead.close()
	if t.closed != nil {
		t.closed()
	}
	t.around.finish(false)
}

// isNew tells whether the target is an image that has no name yet.
func (t *target) isNew() bool { return !strings.HasSuffix(t.lead.opened.Path, path.Base(t.at.path)) }

func kindName(e wire.Entry) string {
	if e.Kind == wire.KindBlock {
		return "device"
	}
	return "file"
}
