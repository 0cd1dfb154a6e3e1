package blockdev

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// Plan is what a program asks of the copies that it makes with this backend, and
// is told of them, beyond what rclone's interfaces can say. It travels in the
// context, and is for one copy at a time.
type Plan struct {
	// BlockSize is the unit of comparison in bytes; 0 is the default.
	BlockSize int

	// Ready is called when source and target are open and nothing was written yet.
	// Its error refuses the copy. After a lost connection it is called again.
	Ready func(Ends) error

	// Done is called when the target is complete.
	Done func(Outcome)

	// Receipt is the file or directory for the receipt of the copy, in place of what the
	// option of the target says.
	Receipt string
	// Mark is told what becomes of each run of bytes, by several goroutines at once.
	// After a lost connection it is told again of some, which may then be equal since
	// they were written before.
	Mark func(off, n int64, f host.Fate)

	// Meter runs while a copy or comparison does.
	Meter Meter

	gaps gaps // of what was read for another remote
}

// Ends are source and target of a copy that is about to begin.
type Ends struct {
	IDs     []string // of a target that is a device: what the copy does not change
	Content []string // what is on such a target
	Source  []string // what is on the source; nil where that is not known
}

// Outcome is what a copy did. All sizes are bytes.
type Outcome struct {
	Scanned int64 // compared
	Equal   int64 // left alone
	Changed int64 // moved and written
	Zeroed  int64 // made zero
	Empty   int64 // of Equal: zero on both ends; known where Mark is told
	Wire    int64 // crossed the network in both directions
	Took    time.Duration
	Receipt string // file, when one was written
	Trusted int64  // neither scanned nor read on the target: it was proved to be as a run before has left it

	// Unreadable are places of the source. A copy that has some is complete but for
	// them, and ends with an error.
	Unreadable Unreadable
}

type planKey struct{}

// WithPlan gives a context for copies by plan.
func WithPlan(ctx context.Context, plan *Plan) context.Context {
	return context.WithValue(ctx, planKey{}, plan)
}

// planOf is the plan of ctx, an empty one when it has none.
func planOf(ctx context.Context) *Plan {
	if plan, ok := ctx.Value(planKey{}).(*Plan); ok {
		return plan
	}
	return new(Plan)
}

func (p *Plan) blockSize() int {
	if p.BlockSize == 0 {
		return block.DefaultSize
	}
	return p.BlockSize
}

func (p *Plan) ready(e Ends) error {
	if p.Ready == nil {
		return nil
	}
	return p.Ready(e)
}

// Unreadable are the places that could not be read of an object of this backend that
// was copied to another remote. The copy itself has no error then.
func (p *Plan) Unreadable() Unreadable { return p.gaps.outcome() }

func (p *Plan) done(o Outcome) {
	if p.Done != nil {
		p.Done(o)
	}
}

// Meter counts what is going on. It may be read at any time.
type Meter struct {
	settled, data, zeroed atomic.Int64
	report                atomic.Pointer[report]
}

// Counters are the state of a Meter, in bytes. Changed and Zeroed are those of
// extents that were found to differ; of a source that is a stream they are known
// only at the end.
type Counters struct {
	Settled, Changed, Zeroed, Wire int64
}

// Read gives the counters of now.
func (m *Meter) Read() Counters {
	c := Counters{Settled: m.settled.Load(), Changed: m.data.Load(), Zeroed: m.zeroed.Load()}
	if r := m.report.Load(); r != nil {
		c.Wire = r.crossed()
	}
	return c
}

// begin starts anew, as after a lost connection.
func (m *Meter) begin(r *report) {
	for _, n := range []*atomic.Int64{&m.settled, &m.data, &m.zeroed} {
		n.Store(0)
	}
	m.report.Store(r)
}

func (m *Meter) moved(data, zeroed int64) {
	m.data.Add(data)
	m.zeroed.Add(zeroed)
}

// settle counts what progress is told as well.
func (m *Meter) settle(progress func(int64)) func(int64) {
	return func(n int64) {
		m.settled.Add(n)
		progress(n)
	}
}

// read counts what is read of in.
func (m *Meter) read(in io.Reader) io.Reader { return &metered{in, m} }

type metered struct {
	in io.Reader
	m  *Meter
}

func (r *metered) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	r.m.settled.Add(int64(n))
	return n, err
}
