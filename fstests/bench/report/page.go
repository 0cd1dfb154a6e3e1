package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// titles of the benchmarks that are reported.
var titles = map[string]string{
	"Changed":  "Blocks of 4 KiB changed at random places",
	"Gathered": "1 % of the blocks changed in one place",
	"Far":      "1 % of the blocks changed, by round-trip time",
	"First":    "First copy, to an image that is not there",
	"FarFirst": "First copy, by round-trip time",
}

// page is the report as Markdown, below the title.
func (r *results) page(plots []plot) string {
	var b strings.Builder
	b.WriteString(r.about())
	for _, p := range plots {
		fmt.Fprintf(&b, "\n![%s](%s)\n", p.title, p.file)
	}
	for _, group := range r.groups() {
		r.table(&b, group)
	}
	if sizes := r.scaling(); sizes != "" {
		b.WriteString(sizes)
	}
	if len(r.failed) > 0 {
		fmt.Fprintf(&b, "\n**Failed, and missing above:** %s\n", strings.Join(r.failed, ", "))
	}
	return b.String()
}

// about tells what the figures depend on.
func (r *results) about() string {
	m := r.machine
	var versions []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if name, ok := strings.CutPrefix(key, "version-"); ok {
			versions = append(versions, name+" "+m[key])
		}
	}
	runs := 0
	for _, row := range r.rows {
		runs = max(runs, row.Metrics[seconds].Runs)
	}
	image := bytesText(r.groups()[0][0].Image)
	from := "made-up images of " + image + " in memory"
	if m["source"] != "" {
		from = fmt.Sprintf("from %s to %s, %s", m["source"], m["target"], image)
	}
	text := fmt.Sprintf("%s; %s cores, %s; %s; %s; %s. Versions: %s.", m["date"], m["cores"], m["cpu"], m["memory"], m["kernel"], from,
		strings.Join(versions, ", "))
	if load, err := strconv.ParseFloat(m["load"], 64); err == nil && load >= 1 {
		text += fmt.Sprintf(" The machine was busy with other work: a load of %v at the beginning.", load)
	}
	if runs > 1 {
		text += fmt.Sprintf(" Medians of up to %d runs, with the fastest and the slowest.", runs)
	}
	text += ` "times" is the time divided by that of blockdev. Memory is the peak of the largest process of the command, and of` +
		` the largest on the host, without ssh and sshd.`
	return fold(text)
}

// table writes the figures of one benchmark and way.
func (r *results) table(b *strings.Builder, rows []row) {
	by := byRate
	switch rows[0].Benchmark {
	case "Far", "FarFirst":
		by = byRTT
	case "First":
		by = alone
	}
	fmt.Fprintf(b, "\n**%s, %s**\n\n", titles[rows[0].Benchmark], rows[0].Way)
	fmt.Fprintf(b, "| %s | tool | seconds | times | cpu s | wire MB | memory MB | target MB |\n|--|--|--|--|--|--|--|--|\n", by.column)
	last := ""
	for _, row := range sorted(rows, by) {
		label := by.label(row)
		if label == last {
			label = ""
		} else {
			last = label
		}
		m, ratio := row.Metrics, ""
		like := row.point
		like.Tool = "blockdev"
		if ours, ok := find(rows, like); ok && row.Tool != like.Tool {
			ratio = figure(m[seconds].Median / ours.Metrics[seconds].Median)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s + %s | %s |\n", label, row.Tool, m[seconds], ratio, row.median(processor),
			row.median(wire), row.median(command), row.median(host), row.median(allocated))
	}
}

// median is that of a metric, if it was measured: a device does not tell what it occupies.
func (r row) median(metric string) string {
	m, ok := r.Metrics[metric]
	if !ok {
		return "-"
	}
	return figure(m.Median)
}

// axis is what varies within a group.
type axis struct {
	column string
	of     func(row) float64
	unit   string
	even   bool // a plot has room for all its values on one scale
}

var (
	byRate = axis{"changed", func(r row) float64 { return r.Rate }, " %", false}
	byRTT  = axis{"round trip", func(r row) float64 { return r.RTT }, " ms", true}
)

// alone is for groups in which nothing varies.
var alone = axis{column: " ", of: func(row) float64 { return 0 }}

func (a axis) label(r row) string {
	if a.unit == "" {
		return ""
	}
	return fmt.Sprintf("%v%s", a.of(r), a.unit)
}

// sorted has the rows in the order of what varies, tools as they came.
func sorted(rows []row, by axis) []row {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b row) int { return int(1e6 * (by.of(a) - by.of(b))) })
	return rows
}

// scaling is a table of seconds for each GiB, if several sizes were measured.
func (r *results) scaling() string {
	sizes := distinct(r.rows, func(r row) int64 { return r.Image })
	if len(sizes) < 2 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n**Seconds for each GiB, by the size of the image**\n\n| | tool |")
	for _, size := range sizes {
		fmt.Fprintf(&b, " %s |", bytesText(size))
	}
	b.WriteString("\n|--|--|" + strings.Repeat("--|", len(sizes)) + "\n")
	for _, row := range r.rows {
		if row.Image != sizes[0] || row.RTT != 0 {
			continue
		}
		what := fmt.Sprintf("%s, %s", strings.ToLower(row.Benchmark), row.Way)
		if row.Benchmark != "First" {
			what += fmt.Sprintf(", %v %%", row.Rate)
		}
		fmt.Fprintf(&b, "| %s | %s |", what, row.Tool)
		for _, size := range sizes {
			like := row.point
			like.Image = size
			text := ""
			if same, ok := find(r.rows, like); ok {
				text = figure(perGiB(same))
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func perGiB(r row) float64 { return r.Metrics[seconds].Median / float64(r.Image) * (1 << 30) }

// String is the median, with the fastest and the slowest of several runs.
func (s spread) String() string {
	if s.Runs < 2 {
		return figure(s.Median)
	}
	return fmt.Sprintf("%s (%s to %s)", figure(s.Median), figure(s.Min), figure(s.Max))
}

// figure has no more digits than such measurements have.
func figure(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.2g", v)
	}
}

func bytesText(n int64) string {
	if n%(1<<30) == 0 {
		return fmt.Sprintf("%d GiB", n>>30)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// fold breaks a paragraph into lines of at most 120 bytes.
func fold(text string) string {
	var b strings.Builder
	at := 0
	for _, word := range strings.Fields(text) {
		if at > 0 && at+1+len(word) > 120 {
			b.WriteString("\n")
			at = 0
		} else if at > 0 {
			b.WriteString(" ")
			at++
		}
		b.WriteString(word)
		at += len(word)
	}
	return b.String() + "\n"
}
