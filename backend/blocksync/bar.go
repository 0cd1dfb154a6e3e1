package blocksync

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/rclone/rclone/fs/log"
	"github.com/schollz/progressbar/v3"

	"github.com/rclone-blockdev/rclone-blockdev/helper/progress"
)

// barWidth is that of the bar itself, barRoom that of what the library adds to it
// and to the line: brackets, its own percentage and blanks. Together with the line
// they fit into columns.
const (
	barWidth = 10
	barRoom  = 8
	columns  = 80
)

// bar is the view on a terminal: a bar on one line, below what is logged meanwhile.
// It has no colours.
type bar struct {
	out, err io.Writer

	mu    sync.Mutex // between the progress, the log and a signal
	bar   *progressbar.ProgressBar
	ended bool
}

func (b *bar) say(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.print(fmt.Sprintf(format+"\n", args...))
}

// print writes above the bar; hold mu.
func (b *bar) print(text string) {
	if b.bar != nil {
		_ = b.bar.Clear() // that the terminal is gone does not concern the copy
	}
	fmt.Fprint(b.err, text)
}

func (b *bar) start(j *job) {
	b.say("%s", j.heading())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bar = progressbar.NewOptions64(max(1, j.result.size),
		progressbar.OptionSetWriter(b.err),
		progressbar.OptionSetWidth(barWidth),
		progressbar.OptionSetTheme(progressbar.ThemeASCII),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
	)
	if !log.Redirected() {
		log.Handler.SetOutput(func(_ slog.Level, text string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.print(text)
		})
	}
}

func (b *bar) every() time.Duration { return 200 * time.Millisecond }

func (b *bar) progress(s state) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	b.bar.Describe(s.described())
	_ = b.bar.Set64(min(s.Settled, max(1, s.size)))
}

func (b *bar) end(r *result, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	b.ended = true
	if b.bar != nil {
		b.print("")
		if !log.Redirected() {
			log.Handler.ResetOutput()
		}
	}
	if r.told(err) {
		fmt.Fprint(b.out, r.summary())
	}
}

// described is the line in front of the bar, which has the percentage itself.
func (s state) described() string {
	const room = columns - 1 - barWidth - barRoom
	text := fmt.Sprintf("%s/%s %s/s sent %s chg %d%% zero %d%% ETA %s",
		progress.Short(s.Settled), progress.Short(s.size), progress.Short(int64(s.rate())), progress.Short(s.sent()),
		s.percent(s.Changed), s.percent(s.Zeroed), s.pace().Left())
	return text[:min(len(text), room)]
}
