package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strconv"
)

// files are the report, by their names.
func (r *results) files() map[string][]byte {
	plots := r.plots()
	files := map[string][]byte{
		"report.md":    []byte("# Benchmarks\n\n" + r.page(plots)),
		"results.json": r.json(),
		"results.csv":  r.csv(),
	}
	for _, p := range plots {
		files[p.file] = p.svg
	}
	return files
}

func (r *results) json() []byte {
	b, err := json.MarshalIndent(map[string]any{"machine": r.machine, "failed": r.failed, "results": r.rows}, "", " ")
	if err != nil {
		panic(fmt.Sprintf("internal error: %v", err)) // numbers and words
	}
	return append(b, '\n')
}

// csv has a line for each metric of each point.
func (r *results) csv() []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	line := func(fields ...string) { _ = w.Write(fields) } // a buffer takes everything
	line("benchmark", "way", "rate_percent", "rtt_ms", "tool", "image_bytes", "metric", "median", "min", "max", "runs")
	for _, row := range r.rows {
		for _, metric := range metrics {
			if m, ok := row.Metrics[metric]; ok {
				line(row.Benchmark, row.Way, number(row.Rate), number(row.RTT), row.Tool, strconv.FormatInt(row.Image, 10),
					metric, number(m.Median), number(m.Min), number(m.Max), strconv.Itoa(m.Runs))
			}
		}
	}
	w.Flush()
	return b.Bytes()
}
