package blocksync

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

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
	sent := "sent"
	if r.dry {
		sent = "would be sent"
		b.WriteString("dry run: nothing was written\n")
	}
	switch {
	case r.whole && r.dry:
		fmt.Fprintf(&b, "all %s would be moved\n", size(r.Changed))
		return b.String()
	case r.whole:
		fmt.Fprintf(&b, "copied %s in %v, %s/s\n", size(r.Scanned), progress.Rounded(r.Took), size(int64(r.rate())))
		return b.String() + r.unreadable()
	}
	b.WriteString(wrapped("", "scanned "+size(r.Scanned), "equal "+size(r.Equal), fmt.Sprintf("changed %s (%d blocks)", size(r.Changed), r.blocks(r.Changed)),
		fmt.Sprintf("zero %s (%d blocks)", size(r.Zeroed), r.blocks(r.Zeroed))))
	parts := []string{sent + " " + size(r.Changed), "on the wire " + size(r.Wire), size(int64(r.rate())) + "/s", "in " + r.Took.Round(time.Millisecond).String()}
	switch {
	case r.dry:
		parts = append(parts, fmt.Sprintf("the copy would take about %v", progress.Rounded(r.estimate)))
	case r.speedup() > 0:
		parts = append(parts, fmt.Sprintf("speed-up %.1f against a full copy", r.speedup()))
	}
	b.WriteString(wrapped("", parts...))
	if r.Trusted > 0 {
		fmt.Fprintf(&b, "not read on the target: %s, which nobody has written to since it was compared\n", size(r.Trusted))
	}
	if r.Receipt != "" {
		fmt.Fprintf(&b, "receipt: %s\n", r.Receipt)
	}
	if r.root != "" {
		fmt.Fprintf(&b, "verified: both ends were read again and have the root\n  %s\n", r.root)
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

// wrapped are parts on as few lines as fit on a terminal, the later ones indented.
// Only a part that is longer than a line is too long.
func wrapped(first string, parts ...string) string {
	var b strings.Builder
	line := first
	for i, part := range parts {
		if i < len(parts)-1 {
			part += ","
		}
		switch {
		case i == 0:
			line += part
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(part) > columns:
			b.WriteString(line + "\n")
			line = "    " + part
		default:
			line += " " + part
		}
	}
	return b.String() + line + "\n"
}

// heading says what is copied where to, on one line where that is wide enough.
func (j *job) heading() string {
	src, dst := j.src.String(), j.dst.String()
	if utf8.RuneCountInString(src+dst)+len(" -> ") > columns {
		return src + "\n-> " + dst
	}
	return src + " -> " + dst
}
