package blockdev

import (
	"context"
	"errors"
	"fmt"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// commit completes the target, which now has the content of src, and looks at
// what it has become. When that fails the hook waits: a lost connection may come back.
// A target with places that could not be read is none to be used by a hook.
func (t *target) commit(ctx context.Context, src fs.ObjectInfo, report *report) (err error) {
	defer t.lead.release()
	if err := t.complete(ctx, src, report); err != nil {
		return err
	}
	entry, err := t.look(ctx)
	if err != nil {
		return err
	}
	t.o.entry = entry
	report.log(t.o, t.before)
	outcome := report.outcome()
	outcome.Receipt, err = t.writeReceipt(ctx, report)
	planOf(ctx).done(outcome)
	t.around.finish(err == nil && outcome.Unreadable.Count == 0)
	return err
}

// complete asks the helper to complete the target. Writing in place, that may be done
// twice. A spool that was applied to its end, durably, is gone, so the one that is there
// when the answer was lost lacks what is to be committed: whether it was done is seen in
// the target. Any other error is one.
func (t *target) complete(ctx context.Context, src fs.ObjectInfo, report *report) error {
	if t.done {
		return nil
	}
	asked := t.asked
	t.asked = true
	err := t.lead.s.End(ctx, &wire.Close{Commit: true, Reread: t.o.fs.opt.Reread, ModTime: src.ModTime(ctx).UnixNano()})
	unsure := isLost(err) || err != nil && ctx.Err() != nil
	if asked && t.req.Apply == wire.ApplyAtomic && errors.Is(err, wire.CodeSizeMismatch) {
		whole, unknown := t.isWhole(ctx, report)
		switch {
		case unknown != nil:
			err, unsure = unknown, true
		case whole:
			err = nil
		}
	}
	t.unsure.Store(unsure)
	t.done = err == nil
	return err
}

// isRenamed tells that a clone has taken the name of its image, when the answer to that
// was lost: then there is another file, with the content that the clone got. again is
// what was opened meanwhile, a clone of that. Its removal makes the names in the directory
// durable, also the one that nobody answered for.
func (t *target) isRenamed(ctx context.Context, again *lease, other bool, report *report) (bool, error) {
	if !other || !t.asked || t.req.Apply != wire.ApplyReflink {
		return false, nil
	}
	whole, err := t.isWhole(ctx, report)
	if err == nil && !whole {
		return false, nil
	}
	if removed := again.discard(ctx); err == nil && removed != nil {
		err = fmt.Errorf("%s holds all that was copied, but whether it has its name durably is not known: %w", t.at, removed)
	}
	t.done = err == nil
	t.unsure.Store(!t.done)
	return t.done, err
}

// discard ends what was opened to be written and was not. The error is why what is left
// of it may still be there.
func (l *lease) discard(ctx context.Context) error {
	defer l.release()
	return l.s.Close(ctx, false, 0)
}

// isWhole reads the target, and tells whether it holds all that was transferred. The error
// is why that is not known: a lost connection, after which it can be asked again, or any
// other.
func (t *target) isWhole(ctx context.Context, report *report) (bool, error) {
	unknown := func(err error) error {
		return fmt.Errorf("whether %s is complete is not known, since the answer to the last step was lost: %w", t.at, err)
	}
	l, err := openSource(ctx, t.at)
	if err != nil {
		return false, unknown(err)
	}
	defer l.close()
	if l.opened.Entry.Kind == wire.KindFile && l.opened.Size != t.req.Size && !t.req.IgnoreSize {
		return false, nil
	}
	compared := int64(0)
	for _, c := range report.contents() {
		compared += c.Length
		root, err := l.s.Root(ctx, c.Range, func(int64) {})
		if err != nil {
			return false, unknown(err)
		}
		if root != c.root {
			fs.Debugf(t.o, "is not complete: %d bytes at byte %d have another root", c.Length, c.Offset)
			return false, nil
		}
	}
	if all := min(t.req.Size, t.lead.opened.Size); compared != all {
		return false, unknown(fmt.Errorf("this run has compared %d of its %d bytes: the same command compares all of it", compared, all))
	}
	fs.Logf(t.o, "the answer to the last step was lost: all of it was read, and it is complete")
	return true, nil
}

// look describes the target as it is now.
func (t *target) look(ctx context.Context) (wire.Entry, error) {
	if t.lead.usable() {
		entry, err := t.lead.s.Stat(ctx, t.at.path)
		if !isLost(err) {
			entry.ID = identity(t.lead.s, entry)
			return entry, err
		}
	}
	return t.o.fs.stat(ctx, t.at)
}
