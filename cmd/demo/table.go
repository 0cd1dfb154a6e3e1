package main

import (
	"fmt"
	"io"
	"time"
)

// table prints a line for each step, at most 80 columns wide.
type table struct {
	out io.Writer
	ssh bool // bytes on the wire are of interest
}

const columns = "%-19s %11s %11s %11s %11s %9s\n"

func newTable(out io.Writer, ssh bool) *table {
	t := &table{out, ssh}
	moved := "moved"
	if ssh {
		moved = "on the wire"
	}
	fmt.Fprintf(out, columns, "", "source read", "target read", moved, "target uses", "time")
	return t
}

// row prints one copy. Of a pull into a plain file only the time is known: the
// other end is rclone's own.
func (t *table) row(step string, r *report) {
	if r.Scanned == nil {
		fmt.Fprintf(t.out, columns, step, "", "", "", "", duration(r.took))
		return
	}
	moved := r.Changed + r.Zeroed
	if t.ssh {
		moved = r.Wire
	}
	fmt.Fprintf(t.out, columns, step, r.SourceRead, r.TargetRead, moved, r.OnDisk, duration(r.took))
}

func (t *table) compared(took time.Duration) {
	fmt.Fprintf(t.out, columns, "compared", "", "", "", "", duration(took))
}

// duration is d with as many digits as matter.
func duration(d time.Duration) string {
	switch {
	case d < 100*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return d.Round(time.Minute).String()
}
