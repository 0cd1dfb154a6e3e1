package blockdev

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/rclone-blockdev/rclone-blockdev/backend/devmap"
	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
)

// diffing is what the command diff is to do beside comparing.
type diffing struct {
	file   *devmap.File // nil for none
	ranges bool
}

// diffOptions reads the options of the command. What cannot be done is refused here,
// before a host is asked.
func diffOptions(opt map[string]string) (want diffing, err error) {
	if text, ok := opt["ranges"]; ok {
		if want.ranges, err = strconv.ParseBool(cmp.Or(text, "true")); err != nil {
			return want, fmt.Errorf("the option ranges is true or false, not %q", text)
		}
	}
	path, ok := opt["map"]
	if layout, given := opt["layout"]; given && !ok {
		return want, fmt.Errorf("the option layout=%s is for the option map", layout)
	}
	if ok {
		want.file, err = devmap.Create(path, devmap.Layout(cmp.Or(opt["layout"], string(devmap.Hilbert))))
	}
	return want, err
}

// discard leaves no file behind.
func (w diffing) discard() {
	if w.file != nil {
		w.file.Discard()
	}
}

// compare compares, and does what is wanted with the result. What could not be read
// is drawn as far as it got.
func (w diffing) compare(ctx context.Context, from, to place, streams int, how ReadErrors) (*Difference, error) {
	if w.file == nil && !w.ranges {
		return compare(ctx, from, to, streams, how, nil)
	}
	plan := &Plan{BlockSize: planOf(ctx).BlockSize}
	var m *devmap.Map
	var differ *ranges
	d, err := compare(WithPlan(ctx, plan), from, to, streams, how, func(d *Difference) {
		m, differ = devmap.New(d.Scanned, d.BlockSize), newRanges(d.Scanned, d.BlockSize)
		shown := Marks(m)
		plan.Mark = func(off, n int64, f host.Fate) {
			shown(off, n, f)
			differ.mark(off, n, f)
		}
	})
	if err == nil && w.ranges {
		d.Ranges, d.RangeUnit = differ.all()
	}
	switch {
	case w.file == nil:
		return d, err
	case m == nil: // nothing was compared
		w.discard()
		return nil, err
	}
	c := devmap.Caption{From: from.String(), To: to.String()}
	if err != nil {
		MarkError(m, err)
		c.Note = "stopped: " + err.Error()
		_ = w.file.Write(m, c) // err matters more
		return nil, err
	}
	d.outcome().Totals(m)
	return d, w.file.Write(m, c)
}
