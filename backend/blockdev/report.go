package blockdev

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// report collects what a transfer did, for the one line at its end.
type report struct {
	start time.Time
	wire  atomic.Int64 // bytes that crossed the network in both directions

	mu  sync.Mutex
	res host.Result // hold mu
}

func (r *report) add(res *host.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res.Add(res)
}

// log writes the line. before is the target as it was opened.
func (r *report) log(o *Object, before wire.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.res.Receiver
	size := func(key string, n int64) any { return fs.LogValue(key, fs.SizeSuffix(n)) }
	fs.Infof(o, "scanned %v, holes %v, equal %v, changed %v, zeroed %v, on the wire %v, allocated %v before and %v after, %v",
		size("scanned", got.Scanned), size("holes", got.Holes), size("equal", got.Equal),
		size("changed", got.Data), size("zeroed", got.Zeroed), size("wire", r.wire.Load()),
		size("allocatedBefore", before.Allocated), size("allocatedAfter", o.entry.Allocated),
		fs.LogValue("took", time.Since(r.start).Round(time.Millisecond)))
}
