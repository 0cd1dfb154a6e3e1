package main

import (
	"math"
	"slices"
	"strconv"

	svg "github.com/ajstarks/svgo"
)

// lines is a plot of lines over a few places.
type lines struct {
	title  string
	x, y   string   // names of the axes, with units
	places []string // along x
	// at are the values of the places. Without them they stand side by side: of 0, 0.1, 1 and 10 no scale shows all.
	at     []float64
	series []series
}

// series is a line. Places without a value have nil.
type series struct {
	name   string
	values []*spread
}

// Measures of all plots in pixels.
const (
	width, height = 800, 440
	left, right   = 72, 190 // of the area of the lines; their names are right of it
	top, bottom   = 66, 64
	labelStep     = 19 // between the names of lines
)

// draw makes the plot. A scale is logarithmic where the values span more than a decade.
func (l lines) draw() []byte {
	return picture(l.title, height, func(s *svg.SVG) {
		y := l.scale()
		for _, tick := range y.ticks {
			at := y.place(tick)
			s.Line(left, at, width-right, at, gridStyle)
			s.Text(left-8, at+4, strconv.FormatFloat(tick, 'f', -1, 64), "text-anchor:end")
		}
		for i, name := range l.places {
			s.Line(l.place(i), height-bottom, l.place(i), height-bottom+5, axisStyle)
			s.Text(l.place(i), height-bottom+21, name, "text-anchor:middle")
		}
		s.Line(left, height-bottom, width-right, height-bottom, axisStyle)
		s.Text((left+width-right)/2, height-16, l.x, "text-anchor:middle")
		s.Text(24, top-16, l.y)
		for i := len(l.series) - 1; i >= 0; i-- { // the first on top
			l.line(s, y, l.series[i])
		}
		l.names(s, y)
	})
}

// place is the position of the i-th place.
func (l lines) place(i int) int {
	const inset = 24
	share := float64(i) / float64(max(1, len(l.places)-1))
	if last := len(l.at) - 1; last > 0 {
		share = (l.at[i] - l.at[0]) / (l.at[last] - l.at[0])
	}
	return left + inset + int(share*(width-left-right-2*inset))
}

func (l lines) line(s *svg.SVG, y scale, line series) {
	look := lookOf(line.name)
	var xs, ys []int
	for i, v := range line.values {
		if v == nil {
			continue
		}
		x := l.place(i)
		xs, ys = append(xs, x), append(ys, y.place(v.Median))
		if low, high := y.place(v.Min), y.place(v.Max); low-high > 2 {
			s.Line(x, low, x, high, "stroke-width:1;stroke:"+look.color)
		}
	}
	s.Polyline(xs, ys, "fill:none;stroke-width:"+strconv.Itoa(look.width)+";stroke:"+look.color)
	for i := range xs {
		look.mark(s, xs[i], ys[i])
	}
}

// names writes the name of each line beside its end, moved apart where ends lie close.
func (l lines) names(s *svg.SVG, y scale) {
	type name struct {
		tool string
		x, y int // of the end of the line
	}
	var all []name
	for _, line := range l.series {
		for i, v := range slices.Backward(line.values) {
			if v != nil {
				all = append(all, name{line.name, l.place(i), y.place(v.Median)})
				break
			}
		}
	}
	slices.SortStableFunc(all, func(a, b name) int { return a.y - b.y })
	var ends []int
	for _, n := range all {
		ends = append(ends, n.y)
	}
	const x = width - right + 30
	for i, at := range apart(ends, labelStep, height-bottom) {
		n := all[i]
		look := lookOf(n.tool)
		s.Line(n.x+8, n.y, x-8, at, "stroke-width:1;stroke-dasharray:2,2;stroke:"+look.color)
		look.mark(s, x, at)
		s.Text(x+11, at+4, n.tool)
	}
}

// apart moves sorted positions so that none is nearer to the next than step, or above limit.
func apart(sorted []int, step, limit int) []int {
	at := slices.Clone(sorted)
	for i := 1; i < len(at); i++ {
		at[i] = max(at[i], at[i-1]+step)
	}
	for i, room := len(at)-1, limit; i >= 0; i-- {
		at[i] = min(at[i], room)
		room = at[i] - step
	}
	return at
}

// scale places values between top and bottom.
type scale struct {
	low, high float64
	log       bool
	ticks     []float64
}

func (c scale) place(v float64) int {
	low, high := c.low, c.high
	if c.log {
		low, high, v = math.Log(low), math.Log(high), math.Log(max(v, c.low))
	}
	return int(math.Round(height - bottom - (v-low)/(high-low)*(height-bottom-top)))
}

func (l lines) scale() scale {
	smallest, largest := math.Inf(1), 0.0
	for _, line := range l.series {
		for _, v := range line.values {
			if v != nil && v.Max > 0 {
				smallest, largest = min(smallest, max(v.Min, v.Max/1e6)), max(largest, v.Max)
			}
		}
	}
	if largest == 0 {
		return scale{0, 1, false, []float64{0, 1}}
	}
	if largest < 10*smallest {
		step := nice(largest / 5)
		c := scale{low: 0}
		for ; c.high < largest; c.high += step {
			c.ticks = append(c.ticks, c.high)
		}
		c.ticks = append(c.ticks, c.high)
		return c
	}
	c := scale{log: true, low: smallest, high: largest}
	steps := []float64{1, 2, 5}
	if largest > 500*smallest {
		steps = steps[:1]
	}
	for decade := math.Floor(math.Log10(smallest)); decade <= math.Ceil(math.Log10(largest)); decade++ {
		for _, step := range steps {
			c.ticks = append(c.ticks, rounded(step*math.Pow(10, decade)))
		}
	}
	// From the tick below the smallest to the one above the largest.
	first := slices.IndexFunc(c.ticks, func(t float64) bool { return t > smallest }) - 1
	last := slices.IndexFunc(c.ticks, func(t float64) bool { return t >= largest })
	if last < 0 {
		last = len(c.ticks) - 1
	}
	c.ticks = c.ticks[max(0, first) : last+1]
	c.low, c.high = c.ticks[0], max(largest, c.ticks[len(c.ticks)-1])
	return c
}

// nice is the number of 1, 2 or 5 with zeros that is not below v.
func nice(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 5, 10} {
		if step*power >= v {
			return rounded(step * power)
		}
	}
	return v
}

// rounded takes away what arithmetic adds behind the last digit.
func rounded(v float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64) // its own text
	return r
}
