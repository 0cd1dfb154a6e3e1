package blockdev

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

const (
	toldGaps   = 20   // places that the log names
	listedGaps = 1000 // places in what programs read
)

// Range is a run of bytes.
type Range struct {
	Offset int64 `json:"offset"` // bytes
	Length int64 `json:"length"` // bytes
}

// Unreadable are the places of a source that could not be read.
type Unreadable struct {
	Ranges []Range `json:"ranges"` // ascending, the first 1000
	Count  int     `json:"places"` // all of them
	Bytes  int64   `json:"bytes"`  // of all of them
}

// gaps collects places that could not be read. The zero value has none.
type gaps struct {
	mu   sync.Mutex
	list []wire.Gap // ascending, not touching; hold mu
}

// add takes in places, which may have been told before.
func (g *gaps) add(more []wire.Gap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, x := range more {
		lo := sort.Search(len(g.list), func(i int) bool { return g.list[i].End() >= x.Offset })
		hi := sort.Search(len(g.list), func(i int) bool { return g.list[i].Offset > x.End() })
		if lo < hi {
			from, to := min(x.Offset, g.list[lo].Offset), max(x.End(), g.list[hi-1].End())
			x = wire.Gap{Offset: from, Length: to - from}
		}
		g.list = slices.Replace(g.list, lo, hi, x)
	}
}

// all is a copy of the list.
func (g *gaps) all() []wire.Gap {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.list)
}

// join takes in what another list has.
func (g *gaps) join(other *gaps) { g.add(other.all()) }

// forget drops what lies at off or behind it: it will be read once more.
func (g *gaps) forget(off int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = slices.DeleteFunc(g.list, func(x wire.Gap) bool { return x.Offset >= off })
	if last := len(g.list) - 1; last >= 0 && g.list[last].End() > off {
		g.list[last].Length = off - g.list[last].Offset
	}
}

// outcome is the list for programs.
func (g *gaps) outcome() Unreadable {
	list := g.all()
	u := Unreadable{Count: len(list), Bytes: wire.GapBytes(list)}
	for _, x := range list[:min(len(list), listedGaps)] {
		u.Ranges = append(u.Ranges, Range(x))
	}
	return u
}

// effects are what has become of places that could not be read.
var effects = map[wire.ReadErrors]string{
	wire.ReadZero: "zeros in the copy",
	wire.ReadSkip: "kept as they were at the target",
}

// Err is nil when there are none, and otherwise the error that a copy ends with, after
// everything else of it is complete. rclone does not try it again: it would read the
// same disk once more.
func (u Unreadable) Err(how ReadErrors) error {
	if u.Count == 0 {
		return nil
	}
	first := u.Ranges[0]
	return fserrors.NoRetryError(fmt.Errorf("%d places of the source could not be read, %d bytes in all, the first %d bytes at byte %d: they are %s; all else is complete",
		u.Count, u.Bytes, first.Length, first.Offset, effects[wire.ReadErrors(how)]))
}

// conclude logs the places, and returns the error that they are.
func (u Unreadable) conclude(ctx context.Context, o any, how ReadErrors) error {
	for _, r := range u.Ranges[:min(len(u.Ranges), toldGaps)] {
		fs.Errorf(o, "unreadable: %v bytes at byte %v of the source",
			fs.LogValue("unreadableLength", r.Length), fs.LogValue("unreadableOffset", r.Offset))
	}
	if more := u.Count - toldGaps; more > 0 {
		fs.Errorf(o, "unreadable: and %d more places", more)
	}
	err := u.Err(how)
	if err != nil {
		err = once(ctx, err)
	}
	return err
}

// concludeRead is conclude for a reading, which must end like any other: rclone would
// throw away what was saved. So the error is counted, and the command fails at its end.
func (o *Object) concludeRead(ctx context.Context, g *gaps) {
	u := g.outcome()
	if u.Count == 0 {
		return
	}
	o.damaged.Store(true)
	planOf(ctx).gaps.join(g)
	fs.CountError(ctx, u.conclude(ctx, o, o.fs.opt.ReadErrors))
}

// refuseDamaged refuses to remove what was not copied as a whole, as a move would.
func (o *Object) refuseDamaged(ctx context.Context) error {
	if !o.damaged.Load() {
		return nil
	}
	return once(ctx, refuse("%s: could not be read as a whole, and is not removed", o.remote))
}

// salvaged is what a reading asks for: there is nothing that could be kept.
func (o *Object) salvaged() wire.ReadErrors {
	if how := wire.ReadErrors(o.fs.opt.ReadErrors); how != wire.ReadSkip {
		return how
	}
	return wire.ReadStop
}

// explainRead says what can be done about a place that cannot be read.
func (o *Object) explainRead(err error) error {
	switch how := wire.ReadErrors(o.fs.opt.ReadErrors); {
	case !errors.Is(err, wire.CodeIO):
		return err
	case how == wire.ReadSkip:
		return fmt.Errorf("%w: %w: read_errors = skip: there is nothing here that keeps its bytes: name a reference, copy to blockdev:localhost/path, or use zero", err, host.ErrUnreadable)
	case how == wire.ReadStop:
		return fmt.Errorf("%w: %w: read_errors = zero goes on behind it", err, host.ErrUnreadable)
	}
	return err
}
