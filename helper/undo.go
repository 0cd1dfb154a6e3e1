package helper

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/recovery"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// openTarget opens a target, and the log of what is about to be overwritten where
// one is wanted. A new image has none: there is nothing to be kept.
func (s *session) openTarget(r *request, path string, m *wire.Open, w device.WriteOptions) (o *device.Object, notices []string, err error) {
	s.leads, s.ignoreSize = m.Lead || m.Claim == wire.Claim{}, m.IgnoreSize
	if m.Undo != "" {
		dir, err := s.logDir(m.Undo)
		if err != nil {
			return nil, nil, err
		}
		w.Prepare = func(o *device.Object) (err error) {
			if err := o.Apart(dir); err != nil {
				return err
			}
			if !s.leads {
				s.undo, err = recovery.Join(dir, subject(o))
				return err
			}
			earlier := recovery.Earlier{}
			s.undo, earlier, err = recovery.Begin(r.ctx, dir, subject(o), recovery.Token(m.Transfer), found{o})
			if err == nil {
				notices = append(notices, earlierNotice(path, earlier)...)
			}
			return err
		}
	}
	if err := s.prepareSpool(m, &w); err != nil {
		return nil, nil, err
	}
	if o, err = device.OpenWrite(path, w); err != nil {
		s.dropUndo()
		_ = s.dropSpool(false)
		return nil, nil, err
	}
	if s.spool != nil && s.leads {
		notices = append(notices, s.spool.Notices()...)
	}
	if n := cannotVerify(o, m.Verify); n != "" && s.leads {
		notices = append(notices, n)
	}
	if m.Undo != "" && s.undo == nil && s.leads {
		notices = append(notices, path+": is new, so there is no undo: remove it instead")
	}
	return o, notices, nil
}

// earlierNotice says what becomes of the log of an interrupted copy.
func earlierNotice(path string, e recovery.Earlier) []string {
	switch {
	case e.Differs != nil:
		return []string{fmt.Sprintf("%v: the log of the copy that was interrupted is not gone on with, and this copy has one of its own; %s stays for an undo after the undo of this copy, which then needs force", e.Differs, e.Log)}
	case e.Resumed:
		return []string{path + ": goes on with the log of a copy that was interrupted: an undo leads to the state before that one"}
	}
	return nil
}

// found is a target as it was found, of the size it has.
type found struct{ *device.Object }

func (f found) Size() int64 { return f.Info().Size }

func (f found) ReadAt(p []byte, off int64) (int, error) { return f.ReadCut(p, off) }

// kept is the target with what it overwrites kept, where that is wanted.
func (s *session) kept(o *device.Object) delta.Target {
	if s.undo == nil {
		return target{o}
	}
	return &keeping{Kept: s.undo.Keep(uncut{o}), from: target{o}}
}

// keeping writes through the log, and reads as before.
type keeping struct {
	*recovery.Kept
	from target
	gaps bool // somewhere it keeps what it has, and the root is not of that
}

// KeptGaps notes that there are any.
func (k *keeping) KeptGaps([]wire.Gap) { k.gaps = true }

// ReadAt and Data are those of the target: what it had before it was written.
func (k *keeping) ReadAt(p []byte, off int64) (int, error) { return k.from.ReadAt(p, off) }

func (k *keeping) Data(off, end int64) (start, stop int64, err error) { return k.from.Data(off, end) }

// ReadBack reads what the medium holds.
func (k *keeping) ReadBack(p []byte, off int64) error { return k.from.ReadBack(p, off) }

// completed notes in the log that a range is done. Where it has gaps nothing is noted: what was
// kept of it is checked then, as in one that was interrupted.
func (s *session) completed(m *wire.Receive, tgt delta.Target, sum *wire.Summary) error {
	if k, ok := tgt.(*keeping); !ok || k.gaps {
		return nil
	}
	return s.undo.Complete(m.Range(), sum.Root)
}

// uncut reads also what is cut at the end of an image.
type uncut struct{ *device.Object }

func (u uncut) ReadAt(p []byte, off int64) (int, error) { return u.ReadCut(p, off) }

// endUndo completes the target and its log. The tail of an image is kept before it
// is cut.
func (s *session) endUndo(o *device.Object, commit func() error) error {
	if s.undo == nil || !s.leads {
		return commit()
	}
	size := o.Info().Size
	if from, to := o.Cut(); from < to {
		if err := s.undo.KeepTail(uncut{o}, from); err != nil {
			return err
		}
		size = from
	}
	if err := commit(); err != nil {
		return err
	}
	return s.undo.End(size)
}

// dropUndo leaves the log to a later session.
func (s *session) dropUndo() {
	if s.undo != nil {
		s.undo.Close()
		s.undo = nil
	}
}

// undoTransfer brings a target back.
func (s *session) undoTransfer(r *request) error {
	m, err := decode(s, r, func(m *wire.Undo) *string { return &m.Path }, true)
	if err != nil {
		return err
	}
	o, dir, err := s.openLogged(m.Path, m.Dir)
	if err != nil {
		return err
	}
	defer o.Close() // after Commit it does nothing
	last := time.Now()
	back, err := recovery.Find(dir, subject(o), func(done int64) error {
		if time.Since(last) < progressEvery {
			return nil
		}
		last = time.Now()
		return s.w.Write(&wire.Progress{Done: done})
	})
	if err == nil {
		defer back.Close()
	}
	if gone, err := isGone(dir, &m.Which, back, err); err != nil {
		return err
	} else if gone {
		return s.found(dir, o, "")
	}
	if err := s.skipped(back); err != nil {
		return err
	}
	back.Force = m.Force
	state := stateOf(back)
	if !m.Look {
		if err := bringBack(r.ctx, o, back, m.Check); err != nil {
			return err
		}
	}
	return s.found(dir, o, back.Log(), outcome(back, state)...)
}

// bringBack checks, and unless that is all writes back. From Begin to End the
// target is neither old nor new, and only running it again changes that.
func bringBack(ctx context.Context, o *device.Object, back *recovery.Restore, check bool) error {
	if err := back.Check(ctx, source{o}); err != nil || check {
		return err
	}
	if err := back.Begin(); err != nil {
		return err
	}
	err := o.Resize(back.Subject().Size)
	if err == nil {
		err = back.Write(ctx, o)
	}
	if err == nil {
		err = o.Commit(time.Time{})
	}
	if err != nil {
		return fmt.Errorf("%w: the target is partly brought back; run the same undo again", err)
	}
	return back.End()
}

// stateOf is what became of the copy that is undone.
func stateOf(r *recovery.Restore) string {
	switch {
	case r.Begun():
		return "undone in part"
	case r.Ended():
		return "complete"
	}
	return "interrupted"
}

func outcome(r *recovery.Restore, state string) []wire.Property {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	sub := r.Subject()
	return []wire.Property{
		{Key: "begun", Value: sub.Begun.UTC().Format(time.RFC3339)},
		{Key: "copy", Value: state},
		{Key: "size", Value: number(sub.Size)},
		{Key: "kept", Value: number(r.Kept)},
		{Key: "written", Value: number(r.Written)},
	}
}
