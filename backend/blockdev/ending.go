package blockdev

import (
	"context"
	"errors"

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
	if asked && t.req.Apply == wire.ApplyAtomic && errors.Is(err, wire.CodeSizeMismatch) && t.isWhole(ctx, report) {
		err = nil
	}
	t.done = err == nil
	return err
}

// isRenamed tells that a clone has taken the name of its image, when the answer to that
// was lost: then there is another file, with the content that the clone got.
func (t *target) isRenamed(ctx context.Context, other bool, report *report) bool {
	t.done = other && t.asked && t.req.Apply == wire.ApplyReflink && t.isWhole(ctx, report)
	return t.done
}

// isWhole reads the target, and tells whether it holds all that was transferred.
func (t *target) isWhole(ctx context.Context, report *report) bool {
	l, err := openSource(ctx, t.at)
	if err != nil {
		fs.Debugf(t.o, "whether it is complete is not known: %v", err)
		return false
	}
	defer l.close()
	if l.opened.Entry.Kind == wire.KindFile && l.opened.Size != t.req.Size && !t.req.IgnoreSize {
		return false
	}
	compared := int64(0)
	for _, c := range report.contents() {
		compared += c.Length
		root, err := l.s.Root(ctx, c.Range, func(int64) {})
		if err != nil || root != c.root {
			fs.Debugf(t.o, "is not complete: %d bytes at byte %d have another root; %v", c.Length, c.Offset, err)
			return false
		}
	}
	if compared != t.req.Size {
		fs.Debugf(t.o, "whether it is complete is not known: the roots of %d of %d bytes are", compared, t.req.Size)
		return false
	}
	fs.Logf(t.o, "the answer to the last step was lost: all of it was read, and it is complete")
	return true
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
