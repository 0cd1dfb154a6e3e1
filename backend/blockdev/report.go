package blockdev

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// report collects what a transfer did, for the one line at its end.
type report struct {
	start time.Time
	wire  atomic.Int64 // bytes that crossed the network in both directions, as far as leases were asked
	gaps  gaps         // of the source

	trusted, sampled int64 // bytes of the target that were not read, and those that were as a sample; set before the end

	mu   sync.Mutex
	res  host.Result           // hold mu
	held map[int64]heldContent // what the target got, by offset; hold mu
	live []*lease              // at work; hold mu
}

// join counts what crosses the network for leases until left is called, which must
// be before they are closed.
func (r *report) join(leases ...*lease) (left func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live = append(r.live, leases...)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, l := range leases {
			r.live = slices.DeleteFunc(r.live, func(other *lease) bool { return other == l })
			r.wire.Add(l.wire())
		}
	}
}

// crossed is the number of bytes that crossed the network so far.
func (r *report) crossed() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.live {
		r.wire.Add(l.wire())
	}
	return r.wire.Load()
}

// outcome is what was done, after all leases have left.
func (r *report) outcome() Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.res.Receiver
	return Outcome{Scanned: got.Equal + got.Data + got.Zeroed, Equal: got.Equal, Changed: got.Data, Zeroed: got.Zeroed,
		Empty: r.res.Empty, Wire: r.wire.Load(), Took: time.Since(r.start), Trusted: r.trusted, Unreadable: r.gaps.outcome()}
}

func (r *report) add(res *host.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res.Add(res)
}

// settle is add for a range that the target now holds.
func (r *report) settle(of block.Range, res *host.Result) {
	r.add(res)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil {
		r.held = map[int64]heldContent{}
	}
	r.held[of.Offset] = heldContent{of, res.Receiver.Root}
}

// heldContent is a range of a target, and the root of what it holds.
type heldContent struct {
	block.Range
	root block.Digest
}

// contents are all ranges that are settled.
func (r *report) contents() []heldContent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.held))
}

// forget drops the counters of what is done again.
func (r *report) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res, r.held = host.Result{}, nil
	r.gaps.forget(0)
}

// log writes the line: for people what moved, and in JSON all counters, in bytes.
// before is the target as it was opened.
func (r *report) log(o *Object, before wire.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent, got := r.res.Sender, r.res.Receiver
	size := func(key string, n int64) any { return fs.LogValue(key, fs.SizeSuffix(n)) }
	format := "scanned %v, changed %v, zeroed %v, on the wire %v, in %v"
	args := []any{
		size("scanned", got.Equal+got.Data+got.Zeroed), size("changed", got.Data), size("zeroed", got.Zeroed),
		size("wire", r.wire.Load()), fs.LogValue("took", time.Since(r.start).Round(time.Millisecond)),
	}
	if before.Kind == wire.KindFile && o.entry.Allocated >= 0 {
		format += ", allocated %v, before %v"
		args = append(args, size("allocatedAfter", o.entry.Allocated), size("allocatedBefore", before.Allocated))
	}
	if r.trusted > 0 {
		format += ", not read on the target but trusted %v%v"
		args = append(args, size("trusted", r.trusted), fs.LogValueHide("trustSample", r.sampled))
	}
	if u := r.gaps.outcome(); u.Count > 0 {
		format += ", unreadable %v in %v places%v"
		args = append(args, size("unreadable", u.Bytes), fs.LogValue("unreadablePlaces", u.Count), fs.LogValueHide("unreadableRanges", u.Ranges))
	}
	hidden := map[string]int64{
		"equal": got.Equal, "holes": sent.Holes, "sourceRead": sent.Scanned, "targetRead": got.Scanned, "targetHoles": got.Holes,
	}
	for _, key := range slices.Sorted(maps.Keys(hidden)) {
		format += "%v"
		args = append(args, fs.LogValueHide(key, hidden[key]))
	}
	fs.Infof(o, format, args...)
}
