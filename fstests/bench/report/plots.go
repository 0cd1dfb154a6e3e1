package main

import (
	"fmt"
	"strings"
)

// plot is a finished picture.
type plot struct {
	file, title string
	svg         []byte
}

// plots are those for which there are figures.
func (r *results) plots() (all []plot) {
	add := func(file, title string, svg []byte) { all = append(all, plot{file + ".svg", title, svg}) }
	for _, rows := range r.groups() {
		way, image := rows[0].Way, bytesText(rows[0].Image)
		draw := func(file, what, metric, unit string, by axis, x string) {
			title := fmt.Sprintf("%s, %s of %s", what, way, image)
			l := lines{title: title, x: x, y: unit}
			l.fill(rows, by, metric)
			add("bench-"+file+"-"+way, title, l.draw())
		}
		const changed, distance = "share of the 4 KiB blocks that changed", "round-trip time"
		switch rows[0].Benchmark {
		case "Changed":
			draw("time", "Time by share of changed blocks", seconds, "seconds", byRate, changed)
			draw("cpu", "Processor time of both ends by share of changed blocks", processor, "seconds", byRate, changed)
			draw("wire", "Bytes on the wire by share of changed blocks", wire, "MB", byRate, changed)
			if few := at(rows, 1); len(few) > 0 {
				title := fmt.Sprintf("Memory in MB, 1 %% changed, %s of %s", way, image)
				p := bars{title: title, parts: []string{"largest process of the command", "largest on the host"}}
				add("bench-memory-"+way, title, p.fill(few, command, host).draw())
			}
		case "Far":
			draw("distance", "Time by round-trip time, 1 % changed", seconds, "seconds", byRTT, distance)
		case "First":
			title := fmt.Sprintf("First copy, seconds, %s of %s", way, image)
			add("bench-first-"+way, title, bars{title: title}.fill(rows, seconds).draw())
			if rows[0].Metrics[allocated].Runs > 0 {
				title = fmt.Sprintf("Space that the target takes after a first copy in MB, %s of %s", way, image)
				add("bench-space-"+way, title, bars{title: title}.fill(rows, allocated).draw())
			}
		}
	}
	if p, ok := r.bySize(); ok {
		all = append(all, p)
	}
	return all
}

// at has the rows with that rate.
func at(rows []row, rate float64) (some []row) {
	for _, r := range rows {
		if r.Rate == rate {
			some = append(some, r)
		}
	}
	return some
}

// fill takes a metric of the rows.
func (l *lines) fill(rows []row, by axis, metric string) {
	places := distinct(rows, by.of)
	if by.even {
		l.at = places
	}
	for _, v := range places {
		l.places = append(l.places, fmt.Sprintf("%v%s", v, by.unit))
	}
	for _, tool := range tools(rows) {
		line := series{name: tool, values: make([]*spread, len(places))}
		for i, v := range places {
			for _, r := range rows {
				if m, ok := r.Metrics[metric]; ok && r.Tool == tool && by.of(r) == v {
					line.values[i] = &m
				}
			}
		}
		l.series = append(l.series, line)
	}
}

func (p bars) fill(rows []row, metrics ...string) bars {
	for _, r := range rows {
		p.tools = append(p.tools, r.Tool)
		var values []float64
		for _, metric := range metrics {
			values = append(values, r.Metrics[metric].Median)
		}
		p.values = append(p.values, values)
	}
	return p
}

// bySize shows whether time grows with the image and no faster, if several sizes were measured.
func (r *results) bySize() (plot, bool) {
	sizes := distinct(r.rows, func(r row) int64 { return r.Image })
	if len(sizes) < 2 {
		return plot{}, false
	}
	l := lines{title: "Time for each GiB by the size of the image, push", x: "size of the image", y: "seconds for each GiB"}
	for _, size := range sizes {
		l.places = append(l.places, bytesText(size))
	}
	at := map[string]int{}
	for _, row := range r.rows {
		// One line a tool is enough: the figures of all others are in the table.
		if row.Benchmark != "Changed" || row.Way != "push" || row.Rate != 1 {
			continue
		}
		if _, ok := at[row.Tool]; !ok {
			at[row.Tool] = len(l.series)
			l.series = append(l.series, series{row.Tool, make([]*spread, len(sizes))})
		}
		for i, size := range sizes {
			if size == row.Image {
				scale := float64(1<<30) / float64(size)
				m := row.Metrics[seconds]
				l.series[at[row.Tool]].values[i] = &spread{m.Median * scale, m.Min * scale, m.Max * scale, m.Runs}
			}
		}
	}
	if len(l.series) == 0 {
		return plot{}, false
	}
	l.title = strings.Replace(l.title, ", push", ", 1 % changed, push", 1)
	return plot{"bench-size.svg", l.title, l.draw()}, true
}
