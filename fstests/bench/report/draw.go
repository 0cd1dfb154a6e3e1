package main

import (
	"bytes"

	svg "github.com/ajstarks/svgo"
)

const (
	ink       = "#222222"
	gridStyle = "stroke:#d8d8d8;stroke-width:1"
	axisStyle = "stroke:#666666;stroke-width:1"
)

// look is how a tool is shown. Tools differ in the form of their marks as well as in colour.
type look struct {
	color string
	width int // of the line
	form  func(s *svg.SVG, x, y int, style string)
}

// looks are by tool, in the colours of Okabe and Ito, which people who see fewer colours tell apart.
var looks = map[string]look{
	"blockdev":           {"#0072b2", 3, disc},
	"blockdev-ssh":       {"#0072b2", 2, ring},
	"rsync":              {"#d55e00", 2, square},
	"rsync-4k":           {"#e69f00", 2, triangle},
	"blocksync-fast":     {"#009e73", 2, ring},
	"blocksync-fast-16k": {"#009e73", 2, diamond},
	"bdsync":             {"#cc79a7", 2, ring},
	"bdsync-16k":         {"#cc79a7", 2, down},
	"diskrsync":          {"#56b4e9", 2, cross},
	"cat":                {"#000000", 2, plus},
	"rblocksync3":        {"#000000", 2, ring},
}

func lookOf(tool string) look {
	if l, ok := looks[tool]; ok {
		return l
	}
	return look{"#777777", 2, ring}
}

func (l look) mark(s *svg.SVG, x, y int) {
	l.form(s, x, y, "stroke:"+l.color+";stroke-width:2;fill:"+l.color)
}

func disc(s *svg.SVG, x, y int, style string)   { s.Circle(x, y, 5, style) }
func ring(s *svg.SVG, x, y int, style string)   { s.Circle(x, y, 4, style+";fill:white") }
func square(s *svg.SVG, x, y int, style string) { s.CenterRect(x, y, 8, 8, style) }
func triangle(s *svg.SVG, x, y int, style string) {
	s.Polygon([]int{x - 5, x + 5, x}, []int{y + 4, y + 4, y - 5}, style)
}
func down(s *svg.SVG, x, y int, style string) {
	s.Polygon([]int{x - 5, x + 5, x}, []int{y - 4, y - 4, y + 5}, style)
}
func diamond(s *svg.SVG, x, y int, style string) {
	s.Polygon([]int{x - 5, x, x + 5, x}, []int{y, y - 5, y, y + 5}, style)
}
func cross(s *svg.SVG, x, y int, style string) {
	s.Line(x-4, y-4, x+4, y+4, style)
	s.Line(x-4, y+4, x+4, y-4, style)
}
func plus(s *svg.SVG, x, y int, style string) {
	s.Line(x-5, y, x+5, y, style)
	s.Line(x, y-5, x, y+5, style)
}

// picture has a title and its own light background, so that it can be read on a dark page as well.
func picture(title string, height int, content func(s *svg.SVG)) []byte {
	var b bytes.Buffer
	s := svg.New(&b) // a buffer takes everything
	s.Startview(width, height, 0, 0, width, height)
	s.Title(title)
	s.Roundrect(0, 0, width, height, 6, 6, "fill:white")
	s.Gstyle("font-family:sans-serif;font-size:13px;fill:" + ink)
	s.Text(24, 26, title, "font-size:16px;font-weight:bold")
	content(s)
	s.Gend()
	s.End()
	return b.Bytes()
}

// bars is a plot with a bar for each value of each tool.
type bars struct {
	title string
	parts []string // what the bars of a tool are, empty for a single one
	tools []string
	// values has one for each tool and part, in the unit of the title, 0 where it was not measured.
	values [][]float64
}

var partColors = []string{"#0072b2", "#e69f00"}

func (p bars) draw() []byte {
	const thick, gap, begin, end = 16, 14, 160, 80
	each := len(p.values[0])*thick + gap
	under := top + 4
	if len(p.parts) > 0 {
		under += 20
	}
	largest := 0.0
	for _, values := range p.values {
		for _, v := range values {
			largest = max(largest, v)
		}
	}
	total := under + len(p.tools)*each + 12
	return picture(p.title, total, func(s *svg.SVG) {
		for i, part := range p.parts {
			x := begin + i*240
			s.Rect(x, top-12, 12, 12, "fill:"+partColors[i])
			s.Text(x+18, top-2, part)
		}
		for i, tool := range p.tools {
			y := under + i*each
			s.Text(begin-12, y+len(p.values[i])*thick/2+4, tool, "text-anchor:end")
			for part, v := range p.values[i] {
				long := max(1, int(v/max(largest, 1e-9)*(width-begin-end)))
				s.Rect(begin, y+part*thick, long, thick-1, "fill:"+partColors[part])
				text := figure(v)
				if v == 0 {
					text = "-"
				}
				s.Text(begin+long+6, y+part*thick+12, text)
			}
		}
		s.Line(begin, under-6, begin, total-12, axisStyle)
	})
}
