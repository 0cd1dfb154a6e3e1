package blocksync

import (
	"fmt"
	"strings"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/helper/progress"
)

// size is n bytes in the units of rclone.
func size(n int64) string { return fs.SizeSuffix(n).String() }

// line is the progress on one line of less than 80 characters.
func (s state) line() string {
	return fmt.Sprintf("%d%% %s/%s %s/s, sent %s, changed %d%%, zero %d%%, ETA %s",
		s.pace().Percent(), progress.Short(s.Settled), progress.Short(s.size), progress.Short(int64(s.rate())), progress.Short(s.sent()),
		s.percent(s.Changed), s.percent(s.Zeroed), s.pace().Left())
}

// blocks is how many blocks n bytes are.
func (r *result) blocks(n int64) int64 { return (n + int64(r.blockSize) - 1) / int64(r.blockSize) }

// rate is the bytes compared in a second.
func (r *result) rate() float64 { return float64(r.Scanned) / max(r.Took.Seconds(), 1e-3) }

// moved is what had to be moved: what crossed the network, and where there is none
// what was written.
func (r *result) moved() int64 {
	if r.Wire > 0 {
		return r.Wire
	}
	return r.Changed
}

// speedup is how many times as much a copy of everything would have moved, 0 when
// nothing was moved.
func (r *result) speedup() float64 {
	if r.moved() == 0 {
		return 0
	}
	return float64(r.Scanned) / float64(r.moved())
}

// summary is the result for people.
func (r *result) summary() string {
	var b strings.Builder
	will, sent := "", "sent"
	if r.dry {
		will, sent = "dry run, nothing was written: ", "would be sent"
	}
	switch {
	case r.whole && r.dry:
		fmt.Fprintf(&b, "%sall %s would be moved\n", will, size(r.Changed))
		return b.String()
	case r.whole:
		fmt.Fprintf(&b, "copied %s in %v, %s/s\n", size(r.Scanned), progress.Rounded(r.Took), size(int64(r.rate())))
		return b.String()
	}
	fmt.Fprintf(&b, "%sscanned %s, equal %s, changed %s (%d blocks), zero %s (%d blocks)\n", will,
		size(r.Scanned), size(r.Equal), size(r.Changed), r.blocks(r.Changed), size(r.Zeroed), r.blocks(r.Zeroed))
	fmt.Fprintf(&b, "%s %s, on the wire %s, %s/s, in %v", sent, size(r.Changed), size(r.Wire), size(int64(r.rate())), r.Took.Round(time.Millisecond))
	switch {
	case r.dry:
		fmt.Fprintf(&b, "; the copy would take about %v", progress.Rounded(r.estimate))
	case r.speedup() > 0:
		fmt.Fprintf(&b, ", speed-up %.1f against a full copy", r.speedup())
	}
	b.WriteByte('\n')
	if r.Receipt != "" {
		fmt.Fprintf(&b, "receipt: %s\n", r.Receipt)
	}
	if r.root != "" {
		fmt.Fprintf(&b, "verified: both ends were read again and have the root %s\n", r.root)
	}
	return b.String()
}
