package blocksync

import (
	"fmt"
	"strings"
	"time"

	"github.com/rclone/rclone/fs"
)

// size is n bytes in the units of rclone.
func size(n int64) string { return fs.SizeSuffix(n).String() }

// short is size in at most six characters, for what changes while one looks at it.
func short(n int64) string {
	v, unit := float64(n), ""
	for _, next := range []string{"Ki", "Mi", "Gi", "Ti", "Pi", "Ei"} {
		if v < 1000 {
			break
		}
		v, unit = v/1024, next
	}
	if unit == "" || v >= 10 {
		return fmt.Sprintf("%.0f%s", v, unit)
	}
	return fmt.Sprintf("%.1f%s", v, unit)
}

// rounded is a duration without what nobody reads.
func rounded(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// line is the progress on one line of less than 80 characters.
func (s state) line() string {
	left := "-"
	if d, ok := s.eta(); ok {
		left = rounded(d).String()
	}
	percent := int64(100)
	if s.size > 0 {
		percent = min(100, s.Settled*100/s.size)
	}
	return fmt.Sprintf("%d%% %s/%s %s/s, sent %s, changed %d%%, zero %d%%, ETA %s",
		percent, short(s.Settled), short(s.size), short(int64(s.rate())), short(s.sent()), s.percent(s.Changed), s.percent(s.Zeroed), left)
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
		fmt.Fprintf(&b, "copied %s in %v, %s/s\n", size(r.Scanned), rounded(r.Took), size(int64(r.rate())))
		return b.String() + r.unreadable()
	}
	fmt.Fprintf(&b, "%sscanned %s, equal %s, changed %s (%d blocks), zero %s (%d blocks)\n", will,
		size(r.Scanned), size(r.Equal), size(r.Changed), r.blocks(r.Changed), size(r.Zeroed), r.blocks(r.Zeroed))
	fmt.Fprintf(&b, "%s %s, on the wire %s, %s/s, in %v", sent, size(r.Changed), size(r.Wire), size(int64(r.rate())), r.Took.Round(time.Millisecond))
	switch {
	case r.dry:
		fmt.Fprintf(&b, "; the copy would take about %v", rounded(r.estimate))
	case r.speedup() > 0:
		fmt.Fprintf(&b, ", speed-up %.1f against a full copy", r.speedup())
	}
	b.WriteByte('\n')
	if r.root != "" {
		fmt.Fprintf(&b, "verified: both ends were read again and have the root %s\n", r.root)
	}
	return b.String() + r.unreadable()
}

// unreadable is a line for what could not be read. The places are in the log.
func (r *result) unreadable() string {
	if r.Unreadable.Count == 0 {
		return ""
	}
	return fmt.Sprintf("unreadable %s of the source in %d places\n", size(r.Unreadable.Bytes), r.Unreadable.Count)
}
