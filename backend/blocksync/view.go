package blocksync

import (
	"fmt"
	"io"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
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

// rate is the bytes compared in a second.
func (s state) rate() float64 { return float64(s.Settled) / max(s.elapsed.Seconds(), 1e-3) }

// eta is how long it will go on at this rate. Both ends work at once, and what is
// compared is sent, so this is the rate of the slower one. ok is false as long as
// there is none.
func (s state) eta() (d time.Duration, ok bool) {
	if s.Settled <= 0 {
		return 0, false
	}
	left := float64(max(0, s.size-s.Settled)) / s.rate()
	return time.Duration(left * float64(time.Second)), left < 1e8
}

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
	interval := v.every()
	if interval == 0 {
		return func() {}
	}
	start, done, ended := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				v.progress(state{read(), size, time.Since(start)})
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
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

func (l *lines) start(j *job) { fmt.Fprintf(l.err, "%s -> %s\n", j.src, j.dst) }

func (l *lines) every() time.Duration { return l.interval }

func (l *lines) progress(s state) { fmt.Fprintln(l.err, s.line()) }

func (l *lines) end(r *result, err error) {
	if !l.ended && r.told(err) {
		fmt.Fprint(l.out, r.summary())
	}
	l.ended = true
}
