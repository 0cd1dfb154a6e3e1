package helper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/recovery"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// prepareSpool has an existing target written by a spool. One that this transfer has
// committed before its connection was lost is applied by Close.
func (s *session) prepareSpool(m *wire.Open, w *device.WriteOptions) error {
	if m.Apply != wire.ApplyAtomic {
		return nil
	}
	dir, err := s.logDir(m.Spool)
	if err != nil {
		return err
	}
	w.Later = true
	w.Prepare = func(o *device.Object) (err error) {
		if err := o.Apart(dir); err != nil {
			return err
		}
		s.spool, err = recovery.BeginSpool(dir, subject(o), recovery.Token(m.Transfer), s.leads)
		return err
	}
	return nil
}

// before is a target as it is while all that it gets is in the spool: an image file
// may be shorter than it will be, and zeros follow.
type before struct {
	target
	have int64
}

// ReadAt reads zeros past the end.
func (b before) ReadAt(p []byte, off int64) (int, error) {
	inside := min(max(b.have-off, 0), int64(len(p)))
	clear(p[inside:])
	if inside > 0 {
		if n, err := b.target.ReadAt(p[:inside], off); int64(n) < inside {
			return n, err
		}
	}
	return len(p), nil
}

// Data is that of the target, and a hole behind it.
func (b before) Data(off, end int64) (start, stop int64, err error) {
	if off >= b.have {
		return end, end, nil
	}
	start, stop, err = b.target.Data(off, min(end, b.have))
	if start == stop {
		start, stop = end, end
	}
	return start, stop, err
}

// spoolRange puts what a range gets into the spool.
func (s *session) spoolRange(r *request, m *wire.Receive, o *device.Object) error {
	if err := s.spool.Begin(m.Range()); err != nil {
		return err
	}
	sum, err := delta.Receive(r.ctx, gapless{r}, s.spool.Target(before{target{o}, o.Info().Size}), m.Range(), m.Window)
	if err == nil {
		err = s.spool.Complete(m.Range(), sum.Root)
	}
	if err != nil {
		return err
	}
	return s.w.Write(sum)
}

// gapless is the link of a range that must become what the source has: the root of
// one with places that the target keeps says nothing of it.
type gapless struct{ *request }

func (g gapless) Next(ctx context.Context, idle func() error) (wire.Frame, error) {
	f, err := g.request.Next(ctx, idle)
	if err != nil || f.Type != wire.TypeGaps {
		return f, err
	}
	var m wire.Gaps
	if err = f.Decode(&m); err == nil && m.Keep {
		err = wire.Errorf(wire.CodeUnsupported, "read_errors = skip and apply = atomic cannot be used together: what cannot be read would be kept, and a spool is for the whole content")
	}
	if err != nil {
		f.Release()
		return wire.Frame{}, err
	}
	return f, nil
}

// commitSpool decides that the target becomes what is in the spool, and makes it so.
func (s *session) commitSpool(ctx context.Context, o *device.Object, m *wire.Close) error {
	if err := s.decideSpool(ctx, o, m); err != nil {
		return errors.Join(err, o.Close())
	}
	if err := s.applySpool(ctx, o, s.spool, s.verify); err != nil {
		_ = o.Close()
		return err
	}
	if err := s.commit(o, m); err != nil {
		return halfApplied(err)
	}
	return s.spool.Remove()
}

func (s *session) decideSpool(ctx context.Context, o *device.Object, m *wire.Close) error {
	if s.spool.Committed() { // before its connection was lost
		return fits(ctx, o, s.spool)
	}
	end := recovery.Commit{Size: -1, ModTime: m.ModTime}
	if o.Info().Kind == device.File && !s.ignoreSize {
		end.Size = o.Size()
	}
	have := o.Info().Size
	return s.spool.Commit(ctx, before{target{o}, have}, have, o.Size(), end)
}

// fits refuses to apply a committed spool to what somebody else has written to.
func fits(ctx context.Context, o *device.Object, sp *recovery.Spool) error {
	have := o.Info().Size
	err := sp.Fits(ctx, before{target{o}, have}, have)
	if errors.Is(err, recovery.ErrDiffers) {
		return fmt.Errorf("%w: what the copy still had to write is in %s: remove that to give it up, and copy again", err, sp.Log())
	}
	return err
}

// halfApplied says what is to be done, also where err is an error of the wire, of which
// nothing else would cross.
func halfApplied(err error) error {
	err = fmt.Errorf("%w: the target is partly updated, and all that it needs is in the spool: run backend recover", err)
	var we *wire.Error
	if errors.As(err, &we) {
		return &wire.Error{Code: we.Code, Offset: we.Offset, Text: wire.Clip(err.Error())}
	}
	return err
}

// applySpool writes what a committed spool has.
func (s *session) applySpool(ctx context.Context, o *device.Object, sp *recovery.Spool, verify wire.Verification) error {
	end, err := sp.End(), error(nil)
	if end.Size >= 0 {
		err = o.Resize(end.Size)
	}
	var check func(p []byte, off int64) error
	if verify != wire.VerifyOff {
		check = func(p []byte, off int64) error { return matches(o, p, off) }
	}
	if err == nil {
		err = sp.Apply(ctx, o, check)
	}
	if err == nil && verify == wire.VerifyFull {
		err = sp.Check(ctx, medium{o}, func(int64) error { return nil })
	}
	if err != nil {
		return halfApplied(err)
	}
	return nil
}

// matches reads again what was written.
func matches(o *device.Object, p []byte, off int64) error {
	got := make([]byte, len(p))
	if err := o.ReadBack(got, off); err != nil {
		return err
	}
	if bytes.Equal(got, p) {
		return nil
	}
	e := wire.Errorf(wire.CodeCorrupted, "bytes %d to %d: read again from the medium, they are not what was written: the disk or what is below it is failing", off, off+int64(len(p)))
	e.Offset = off
	return e
}

// medium is what the medium holds, all of which is read.
type medium struct{ o *device.Object }

func (m medium) ReadAt(p []byte, off int64) (int, error) {
	if err := m.o.ReadBack(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (m medium) Data(off, end int64) (start, stop int64, err error) { return off, end, nil }

// recoverTransfer ends what a copy has left.
func (s *session) recoverTransfer(r *request) error {
	m, err := decode(s, r, func(m *wire.Recover) *string { return &m.Path }, true)
	if err != nil {
		return err
	}
	o, dir, err := s.openLogged(m.Path, m.Dir)
	if err != nil {
		return err
	}
	defer o.Close() // after Commit it does nothing
	sp, err := recovery.OpenSpool(dir, subject(o))
	if err == nil {
		defer sp.Close()
	}
	if gone, err := isGone(dir, &m.Which, sp, err); err != nil {
		return err
	} else if gone {
		return s.found(dir, o, "")
	}
	if err := s.skipped(sp); err != nil {
		return err
	}
	state := "old"
	if sp.Committed() {
		state = "new"
	}
	if !m.Look {
		if err := s.recoverSpool(r.ctx, o, sp); err != nil {
			return err
		}
	}
	return s.found(dir, o, sp.Log(), wire.Property{Key: "content", Value: state})
}

// recoverSpool applies what a copy to o has committed and not applied to its end, and
// reads all of it once more. What was not committed is removed, the content being old.
func (s *session) recoverSpool(ctx context.Context, o *device.Object, sp *recovery.Spool) error {
	if !sp.Committed() {
		return sp.Remove()
	}
	if err := fits(ctx, o, sp); err != nil {
		return err
	}
	if err := s.applySpool(ctx, o, sp, wire.VerifyOff); err != nil {
		return err
	}
	differs := sp.Check(ctx, source{o}, func(done int64) error { return s.w.Write(&wire.Progress{Done: done}) })
	if differs != nil && !errors.Is(differs, recovery.ErrDiffers) {
		return differs
	}
	// Where it differs is not what the spool has, so that is of no more use.
	if err := o.Commit(time.Unix(0, sp.End().ModTime)); err != nil {
		return errors.Join(differs, err)
	}
	return errors.Join(differs, sp.Remove())
}

// dropSpool leaves the spool to a later session, or removes it when the transfer has
// ended without being committed.
func (s *session) dropSpool(ended bool) error {
	sp := s.spool
	if sp == nil {
		return nil
	}
	s.spool = nil
	defer sp.Close()
	if ended && s.leads && !sp.Committed() {
		return sp.Remove()
	}
	return nil
}
