package main

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// results are all figures of an output.
type results struct {
	machine map[string]string // what the figures depend on, by its key in the output
	rows    []row             // in the order of the output
	failed  []string          // names of benchmarks
}

// point is what was measured.
type point struct {
	Benchmark string  `json:"benchmark"` // without the word Benchmark
	Way       string  `json:"way"`       // "push" or "pull"
	Rate      float64 `json:"rate"`      // percent of the blocks that were changed
	RTT       float64 `json:"rtt"`       // milliseconds
	Tool      string  `json:"tool"`
	Image     int64   `json:"image"` // bytes
}

// row is what came of a point.
type row struct {
	point
	Metrics map[string]spread `json:"metrics"`
}

// spread is what is told of several runs.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Runs   int     `json:"runs"`
}

// The metrics, in the order of the tables.
const (
	seconds   = "seconds"
	processor = "processor_seconds"
	wire      = "wire_MB"
	command   = "command_memory_MB"
	host      = "host_memory_MB"
	allocated = "target_allocated_MB"
)

var metrics = []string{seconds, processor, wire, command, host, allocated}

// units are the names of the metrics in the output. What it has besides follows from these.
var units = map[string]string{
	"sec/op": seconds, "cpu-s/op": processor, "wireMB/op": wire, "commandMB": command, "hostMB": host, "allocatedMB": allocated,
}

// failure is the line of a benchmark that failed, which the format does not know.
var failure = regexp.MustCompile(`(?m)^.*--- FAIL: (\S+).*\n?`)

// read takes the output of go test -bench. It passes over benchmarks that are no scenarios, and refuses a line that is
// not as it should be.
func read(text, name string) (*results, error) {
	r := &results{machine: map[string]string{}}
	for _, found := range failure.FindAllStringSubmatch(text, -1) {
		r.failed = append(r.failed, found[1])
	}
	text = failure.ReplaceAllString(text, "\n")
	values := map[point]map[string][]float64{}
	var order []point
	reader := benchfmt.NewReader(strings.NewReader(text), name)
	for reader.Scan() {
		result, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			return nil, fmt.Errorf("not what a benchmark writes: %v", reader.Result())
		}
		if base, _ := result.Name.Parts(); titles[string(base)] == "" {
			continue // a benchmark of something else
		}
		p, err := pointOf(result)
		if err != nil {
			file, line := result.Pos()
			return nil, fmt.Errorf("%s:%d: %w", file, line, err)
		}
		for _, c := range result.Config {
			r.machine[c.Key] = string(c.Value)
		}
		if values[p] == nil {
			values[p] = map[string][]float64{}
			order = append(order, p)
		}
		for _, v := range result.Values {
			if metric, ok := units[v.Unit]; ok {
				values[p][metric] = append(values[p][metric], v.Value)
			}
		}
	}
	if err := reader.Err(); err != nil {
		return nil, err
	}
	if len(order) == 0 {
		if len(r.failed) > 0 {
			return nil, fmt.Errorf("%s: no result, %s failed", name, strings.Join(r.failed, ", "))
		}
		return nil, fmt.Errorf("%s: no result of a benchmark", name)
	}
	for _, p := range order {
		measured := map[string]spread{}
		for metric, v := range values[p] {
			measured[metric] = spreadOf(v)
		}
		r.rows = append(r.rows, row{p, measured})
	}
	return r, nil
}

// pointOf reads the name of a benchmark.
func pointOf(result *benchfmt.Result) (p point, err error) {
	base, parts := result.Name.Parts()
	p.Benchmark = string(base)
	switch p.Benchmark {
	case "Gathered", "Far":
		p.Rate = 1 // where the name does not tell
	}
	for _, part := range parts {
		key, value, _ := strings.Cut(strings.TrimPrefix(string(part), "/"), "=")
		switch {
		case key == "way":
			p.Way = value
		case key == "rate":
			p.Rate, err = strconv.ParseFloat(value, 64)
		case key == "rtt":
			p.RTT, err = strconv.ParseFloat(value, 64)
		case key == "tool":
			p.Tool = value
		case strings.HasPrefix(key, "-"): // number of processors
		default:
			err = fmt.Errorf("%q is not known here", part)
		}
		if err != nil {
			return p, fmt.Errorf("benchmark %s: %w", result.Name, err)
		}
	}
	if p.Tool == "" || p.Way == "" {
		return p, fmt.Errorf("benchmark %s has no tool or no way in its name", result.Name)
	}
	p.Image, err = strconv.ParseInt(result.GetConfig("image"), 10, 64)
	if err != nil {
		return p, fmt.Errorf("no line \"image: BYTES\" before the first result: %w", err)
	}
	return p, nil
}

func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{(sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1], n}
}

// groups are the rows of each benchmark and way, of the largest image.
func (r *results) groups() (groups [][]row) {
	largest := int64(0)
	for _, row := range r.rows {
		largest = max(largest, row.Image)
	}
	at := map[[2]string]int{}
	for _, row := range r.rows {
		if row.Image != largest {
			continue
		}
		key := [2]string{row.Benchmark, row.Way}
		if _, ok := at[key]; !ok {
			at[key] = len(groups)
			groups = append(groups, nil)
		}
		groups[at[key]] = append(groups[at[key]], row)
	}
	return groups
}

// distinct are the different values of rows, in order.
func distinct[T cmp.Ordered](rows []row, of func(row) T) []T {
	set := map[T]bool{}
	for _, r := range rows {
		set[of(r)] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// tools are those of the rows, in the order of the output.
func tools(rows []row) (names []string) {
	for _, r := range rows {
		if !slices.Contains(names, r.Tool) {
			names = append(names, r.Tool)
		}
	}
	return names
}

// find is the row of a tool that has the same rate and distance, and reports whether there is one.
func find(rows []row, like point) (row, bool) {
	at := slices.IndexFunc(rows, func(r row) bool { return r.point == like })
	if at < 0 {
		return row{}, false
	}
	return rows[at], true
}
