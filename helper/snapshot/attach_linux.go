package snapshot

import (
	"bufio"
	"context"
	"errors"
	"os"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// Hold is a set that a session needs. It is kept until Release, or until the process ends.
type Hold struct {
	set  *set
	st   *state
	path string
}

// Prepare makes the set of spec, or finds it when it exists: then it is only checked. With follow it must exist.
// notice is called with lines for the log.
func Prepare(ctx context.Context, spec *Spec, follow bool, notice func(string)) (*Hold, error) {
	if !isOwner(spec.Owner) {
		return nil, fail(device.ErrRefused, spec.Path, "a set of snapshots needs an owner of 32 hex digits")
	}
	for {
		h, err := existing(ctx, spec, notice)
		if err != nil || h != nil {
			return h, err
		}
		if follow {
			return nil, notFound(spec.Path)
		}
		for _, path := range append(spec.paths(), spec.Path) {
			Sweep(path, notice)
		}
		h, err = start(ctx, spec, notice)
		if err != nil || h != nil {
			return h, err
		}
	}
}

// existing is the set of spec when it exists and is good, nil when it does not exist.
func existing(ctx context.Context, spec *Spec, notice func(string)) (*Hold, error) {
	for {
		h, wait, err := look(spec)
		if !wait {
			if h == nil {
				return nil, err
			}
			if err := h.check(ctx); err != nil {
				h.Release()
				return nil, err
			}
			if err := h.adopt(notice); err != nil {
				h.Release()
				return nil, err
			}
			return h, nil
		}
		select {
		case <-time.After(pollTime):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// look finds the set of spec. wait tells that it is being made or ended.
func look(spec *Spec) (h *Hold, wait bool, err error) {
	for _, dir := range stateDirs() {
		s, err := openSet(dir, spec.Owner, false)
		if err != nil {
			continue
		}
		if s.use() != nil {
			s.close()
			return nil, true, nil
		}
		st, err := s.load()
		kept := s.locked(keeperByte)
		switch {
		case err == nil && st.Phase == ready && st.Boot == bootID():
			return &Hold{s, st, spec.Path}, false, nil
		case kept:
			s.close()
			return nil, true, nil
		}
		s.close()
		last := ""
		sweepSet(dir, spec.Owner, func(text string) { last = text })
		if exists(s.file(".lock")) {
			return nil, false, fail(device.ErrBusy, spec.Path, "what was left of its last snapshot is not removed: %s", last)
		}
	}
	return nil, false, nil
}

// adopt starts a new keeper where the old one was killed.
func (h *Hold) adopt(notice func(string)) error {
	if h.set.locked(keeperByte) {
		return nil
	}
	notice("the process that kept the snapshot of " + h.path + " was killed, and is replaced")
	return h.launch(nil, notice)
}

// start makes the set. It is nil when another session was faster.
func start(ctx context.Context, spec *Spec, notice func(string)) (*Hold, error) {
	dir, err := makeStateDir()
	if err != nil {
		return nil, fail(device.ErrIO, spec.Path, "%v", err)
	}
	s, err := openSet(dir, spec.Owner, true)
	switch {
	case errors.Is(err, os.ErrExist):
		return nil, nil
	case err != nil:
		return nil, fail(device.ErrIO, spec.Path, "%v", err)
	}
	h := &Hold{set: s, path: spec.Path}
	stop := context.AfterFunc(ctx, func() { _ = s.conclude(Failed) }) // the keeper looks when it is ready
	defer stop()
	if err := s.use(); err == nil {
		err = h.launch(spec, notice)
		if err == nil {
			h.st, err = s.load()
		}
		if err == nil {
			return h, nil
		}
		h.Release()
		return nil, err
	}
	h.Release()
	return nil, fail(device.ErrIO, spec.Path, "locks do not work in %s: %v", dir, err)
}

// launch starts the keeper and waits until the set is ready.
func (h *Hold) launch(spec *Spec, notice func(string)) error {
	cmd := again(roleKeeper, h.set.dir, h.set.owner)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fail(device.ErrIO, h.path, "the process that keeps its snapshot cannot be started: %v", err)
	}
	defer func() { go cmd.Wait() }() // whenever it ends; not before all is read
	if spec != nil {
		_, _ = in.Write(spec.marshal(nil))
	}
	_ = in.Close()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch a, err := parseLine(lines.Text()); {
		case err == nil && a.key == "problem":
			return a.problem().err(h.path)
		case err == nil && a.key == "ready":
			return nil
		case err == nil && a.key == "notice":
			notice(a.value(0))
		default:
			return fail(device.ErrIO, h.path, "the process that keeps its snapshot says: %s", clean(lines.Text()))
		}
	}
	return fail(device.ErrIO, h.path, "the process that keeps its snapshot was killed; what it has begun is removed at the next start of a helper with this path")
}

// check tells why the snapshots of the set are void.
func (h *Hold) check(ctx context.Context) error {
	for i := range h.st.Members {
		m := &h.st.Members[i]
		if err := kinds[m.Kind].check(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// Device is what is to be read instead of path, empty for path itself, and the ID of what it was taken of.
func (h *Hold) Device(path string) (name, id string) {
	for _, m := range h.st.Members {
		if m.Path == path {
			return m.Device, m.ID
		}
	}
	return "", ""
}

// Made is when the set was made. A set that was made again is another one.
func (h *Hold) Made() time.Time { return h.st.Made }

// Release tells that the session needs the set no longer.
func (h *Hold) Release() { h.set.close() }

// Conclude ends the set of an owner and waits until that is done. The error is of what could not be undone; notice is
// called with lines for the log. A set that is not there has ended already.
func Conclude(ctx context.Context, owner string, o Outcome, wait bool, notice func(string)) error {
	if !isOwner(owner) {
		return fail(device.ErrRefused, "snapshot", "%q is no owner", clean(owner))
	}
	for _, dir := range stateDirs() {
		s, err := openSet(dir, owner, false)
		if err != nil {
			continue
		}
		defer s.close()
		if err := s.conclude(o); err != nil {
			return fail(device.ErrIO, "snapshot", "%v", err)
		}
		if !wait {
			return nil
		}
		return s.await(ctx, o, notice)
	}
	return nil
}

// await waits for the keeper to end the set. Meanwhile it counts as one who needs the set, so that the result stays.
func (s *set) await(ctx context.Context, o Outcome, notice func(string)) error {
	_ = s.use()
	for {
		st, err := s.load()
		if err != nil { // it has ended
			return nil
		}
		if st.Phase == ended && len(st.Members) == 0 {
			s.remove()
			return st.report(notice)
		}
		if s.keep() == nil { // there is no keeper any more
			return s.finish(o, dropTime).report(notice)
		}
		if st.Phase == ended { // there will be none
			return st.report(notice)
		}
		select {
		case <-time.After(pollTime / 2):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// finish ends a set whose keeper this process has become.
func (s *set) finish(o Outcome, patience time.Duration) *state {
	st, err := s.load() // again: the keeper may have ended it since
	switch {
	case err != nil:
		s.remove()
		return &state{}
	case st.Phase == ended && len(st.Members) == 0:
		s.remove()
		return st
	}
	k := &keeper{set: s, st: st, patience: patience, say: func(answer) {}}
	k.end(o)
	return st
}

func (st *state) report(notice func(string)) error {
	for _, line := range st.Log {
		notice(line)
	}
	return st.Problem.err(st.Spec.Path)
}
