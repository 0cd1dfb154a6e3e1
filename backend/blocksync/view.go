package blocksync

import (
	"fmt"
	"io"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/progress"
)

// view tells what goes on. Its methods are called from one goroutine at a time, but
// for end, which a signal may call while another one runs.
type view interface {
	// say gives a hint that is neither progress nor result.
	say(format string, args ...any)
	start(j *job)
	// every is how often progress is called after start, 0 for never.
	every() time.Duration
	progress(s state)
	// end is called once or twice, of which the first counts.
	end(r *result, err error)
}

// state is how far a copy is.
type state struct {
	blockdev.Counters
	size    int64 // bytes
	elapsed time.Duration
}

// pace is how fast it goes. Both ends work at once, and what is compared is sent, so
// the rate is that of the slower one.
func (s state) pace() progress.State {
	return progress.State{Done: s.Settled, Size: s.size, Elapsed: s.elapsed}
}

// rate is the bytes compared in a second.
func (s state) rate() float64 { return s.pace().Rate() }

// percent is the share of n in what was compared.
func (s state) percent(n int64) int64 {
	if s.Settled <= 0 {
		return 0
	}
	return min(100, n*100/s.Settled)
}

// sent is what crossed the network, or what was moved where there is none.
func (s state) sent() int64 {
	if s.Wire > 0 {
		return s.Wire
	}
	return s.Changed
}

// show names where the progress is read.
func (j *job) show(read func() blockdev.Counters) {
	j.begin = func() {
		if j.stop == nil {
			j.view.start(j)
			j.stop = every(j.view, j.result.size, read)
		}
	}
}

// every shows the progress until stop is called.
func every(v view, size int64, read func() blockdev.Counters) (stop func()) {
	return progress.Every(v.every(), func(elapsed time.Duration) { v.progress(state{read(), size, elapsed}) })
}

// silent is the view of --quiet: errors are logged by who runs the command.
type silent struct{}

func (silent) say(string, ...any)   {}
func (silent) start(*job)           {}
func (silent) every() time.Duration { return 0 }
func (silent) progress(state)       {}
func (silent) end(*result, error)   {}

// lines is the view where nobody watches: a line now and then.
type lines struct {
	out, err io.Writer
	interval time.Duration
	ended    bool
}

func (l *lines) say(format string, args ...any) { fmt.Fprintf(l.err, format+"\n", args...) }

func (l *lines) start(j *job) { fmt.Fprintln(l.err, j.heading()) }

func (l *lines) every() time.Duration { return l.interval }

func (l *lines) progress(s state) { fmt.Fprintln(l.err, s.line()) }

func (l *lines) end(r *result, err error) {
	if !l.ended && r.told(err) {
		fmt.Fprint(l.out, r.summary())
	}
	l.ended = true
}
