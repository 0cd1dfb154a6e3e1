package tool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"github.com/rclone-blockdev/rclone-blockdev/helper/progress"
)

const (
	barEvery   = 200 * time.Millisecond
	linesEvery = 5 * time.Second // where nobody watches
	barWidth   = 20              // of the bar itself
)

// view tells what goes on. Its methods may be called from several goroutines.
type view interface {
	start(started)
	// every is how often progress is called after start, 0 for never.
	every() time.Duration
	progress(progress.State)
	// notice gives a hint that is neither progress nor result.
	notice(text string)
	differs(s span)
	end(r *result)
}

// started is what a command is about to do.
type started struct {
	command   string
	arguments []string // as they were typed
	size      int64    // bytes to read or compare
	blockSize int64    // bytes
}

// span is a range of bytes.
type span struct{ off, n int64 }

// result is the end of a command.
type result struct {
	err       error  // nil also when two differ
	text      string // for people
	size      int64  // bytes read or compared
	done      int64  // bytes, in the time that it took
	took      time.Duration
	blockSize int    // bytes
	root      string // hex

	compared          bool
	differing, ranges int64 // bytes that differ, and the ranges

	written              bool  // a manifest was
	extents, zeroExtents int64 // in it
	output               string
}

// rate is the bytes read in a second.
func (r *result) rate() int64 { return int64(progress.State{Done: r.done, Elapsed: r.took}.Rate()) }

func (c *call) newView() view {
	if c.json {
		return &events{out: c.Out, err: c.Err}
	}
	v := &human{out: c.Out, err: c.Err, quiet: c.quiet}
	if f, ok := c.Err.(*os.File); ok {
		v.terminal = isTerminal(f)
	}
	return v
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// human is the view for people: results on out, and what passes on err, as a bar on a
// terminal and as a line now and then elsewhere. It has no colours.
//
// The bar is not that of the progressbar library, which blocksync has: that needs
// net/http, and the helper is to be small and must not need the C library of the host.
type human struct {
	out, err io.Writer
	terminal bool
	quiet    bool

	mu    sync.Mutex
	shown int  // length of the bar on the terminal; hold mu
	ended bool // hold mu
}

func (v *human) start(started) {}

func (v *human) every() time.Duration {
	switch {
	case v.quiet:
		return 0
	case v.terminal:
		return barEvery
	}
	return linesEvery
}

func (v *human) progress(s progress.State) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return
	}
	pace := fmt.Sprintf("%s/%s %s/s, ETA %s", progress.Short(s.Done), progress.Short(s.Size), progress.Short(int64(s.Rate())), s.Left())
	if !v.terminal {
		fmt.Fprintf(v.err, "%d%% %s\n", s.Percent(), pace)
		return
	}
	done := int(s.Percent()) * barWidth / 100
	line := fmt.Sprintf("%3d%% [%s%s] %s", s.Percent(), strings.Repeat("=", done), strings.Repeat(".", barWidth-done), pace)
	fmt.Fprintf(v.err, "\r%s%s", line, strings.Repeat(" ", max(0, v.shown-len(line))))
	v.shown = len(line)
}

// clear makes room for a line where the bar is; hold mu.
func (v *human) clear() {
	if v.shown > 0 {
		fmt.Fprintf(v.err, "\r%s\r", strings.Repeat(" ", v.shown))
	}
	v.shown = 0
}

// print writes a line, unless only errors are wanted.
func (v *human) print(w io.Writer, text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.clear()
	if !v.quiet {
		fmt.Fprintln(w, text)
	}
}

func (v *human) notice(text string) { v.print(v.err, text) }

func (v *human) differs(s span) {
	text := fmt.Sprintf("at byte %d: %d bytes differ", s.off, s.n)
	if s.n >= 1024 {
		text += " (" + progress.Size(s.n) + ")"
	}
	v.print(v.out, text)
}

// end leaves errors to who runs the command.
func (v *human) end(r *result) {
	v.mu.Lock()
	v.ended = true
	v.clear()
	v.mu.Unlock()
	if r.text != "" {
		v.print(v.out, r.text)
	}
}

// measured does the work of a command, of which size is the number of bytes it goes
// through, while the view shows how far it is.
func (c *call) measured(size int64, r *result, work func(done *atomic.Int64) error) error {
	var done atomic.Int64
	c.view.start(started{c.name, c.arg, size, int64(r.blockSize)})
	start := time.Now()
	stop := progress.Every(c.view.every(), func(elapsed time.Duration) {
		c.view.progress(progress.State{Done: done.Load(), Size: size, Elapsed: elapsed})
	})
	err := work(&done)
	stop()
	r.size, r.done, r.took = size, done.Load(), time.Since(start)
	return c.finish(r, err)
}

// finish shows the result, or that there is none.
func (c *call) finish(r *result, err error) error {
	if err != nil && !errors.Is(err, errDiffers) {
		r.err, r.text = err, ""
	}
	c.view.end(r)
	return err
}
