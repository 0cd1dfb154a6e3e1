package devmap

import (
	"fmt"
	"image"
	"image/color"

	"github.com/rclone/rclone/fs"
)

// Caption is the text above and below the cells.
type Caption struct {
	From, To string // what was compared
	Note     string // anything else; empty for nothing
}

// look is how a kind is shown.
type look struct {
	name  string
	color color.RGBA
}

// looks are by kind, and what was not reached is the last. Their lightness falls
// with each, in steps that are told apart in grey and by people who see fewer
// colours; a test holds that.
var looks = [kinds + 1]look{
	Hole:    {"hole, or zero on both", color.RGBA{0xdc, 0xdc, 0xdc, 0xff}},
	Equal:   {"equal", color.RGBA{0x86, 0xbc, 0xe4, 0xff}},
	Zeroed:  {"made zero", color.RGBA{0xd5, 0x7a, 0x00, 0xff}},
	Changed: {"changed", color.RGBA{0x8c, 0x1d, 0x62, 0xff}},
	Error:   {"error", color.RGBA{0x00, 0x00, 0x00, 0xff}},
	kinds:   {"not reached", color.RGBA{0xff, 0xff, 0xff, 0xff}},
}

// Measures of the picture, in pixels.
const (
	area    = 1024 // side of the square of cells, a multiple of maxSide
	margin  = 20
	line    = 22 // from one line of text to the next
	font    = 16
	swatch  = 14
	columns = 3 // of the legend
	width   = area + 2*margin
	// longest is the length of a text that fits into the width, in characters.
	longest = 115
)

// label is a line of text; x and y are where it begins, on its base line.
type label struct {
	x, y int
	text string
}

// box is a rectangle of one colour with a frame.
type box struct {
	rect  image.Rectangle
	color color.RGBA
}

// picture is all that is to be seen.
type picture struct {
	title  string
	height int
	cells  *image.Paletted // a pixel for each cell
	square image.Rectangle // where they are
	labels []label
	boxes  []box
}

// lay makes the picture of m.
func (m *Map) lay(c Caption, l Layout) *picture {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := &picture{title: clip(c.From + " -> " + c.To), cells: m.pixels(l)}
	y := margin + font
	p.say(margin, &y, "from "+c.From)
	p.say(margin, &y, "to "+c.To)
	y -= font / 2
	p.square = image.Rect(margin, y, margin+area, y+area)
	y += area + line + font/2
	p.legend(m, &y)
	p.say(margin, &y, m.scale(l))
	if c.Note != "" {
		p.say(margin, &y, c.Note)
	}
	p.height = y - line + margin
	return p
}

// say adds a line, and moves y to the next.
func (p *picture) say(x int, y *int, text string) {
	p.labels = append(p.labels, label{x, *y, clip(text)})
	*y += line
}

// legend explains the colours, and how much there is of each.
func (p *picture) legend(m *Map, y *int) {
	left := m.size
	entries := m.bytes[:]
	for _, n := range entries {
		left -= n
	}
	entries = append(append([]int64(nil), entries...), max(0, left))
	for i, n := range entries {
		x := margin + i%columns*(area/columns)
		if i > 0 && i%columns == 0 {
			*y += line
		}
		p.boxes = append(p.boxes, box{image.Rect(x, *y-swatch+2, x+swatch, *y+2), looks[i].color})
		text := fmt.Sprintf("%s: %s, %s", looks[i].name, size(n), share(n, m.size))
		if Kind(i) == Error { // one byte stands for it
			text = looks[i].name + ": none"
			if n > 0 {
				text = looks[i].name
			}
		}
		p.labels = append(p.labels, label{x + swatch + 6, *y, text})
	}
	*y += line
}

// scale says what a cell is, and in which order they are.
func (m *Map) scale(l Layout) string {
	order := "a Hilbert curve from the top left to the top right"
	if l == Rows {
		order = "rows from the top left"
	}
	return fmt.Sprintf("%s in %d cells of %s, on %s; each shows its rarest kind", size(m.size), m.used(), size(m.cell), order)
}

// pixels has one pixel for each cell, with the palette of looks. What is behind the
// end of the device is transparent.
func (m *Map) pixels(l Layout) *image.Paletted {
	palette := color.Palette{}
	for _, k := range looks {
		palette = append(palette, k.color)
	}
	nothing := uint8(len(palette))
	img := image.NewPaletted(image.Rect(0, 0, m.side, m.side), append(palette, color.Transparent))
	for i := range m.cells {
		x, y := l.place(m.side, i)
		shown := nothing
		if i < m.used() {
			shown = uint8(m.at(i))
		}
		img.SetColorIndex(x, y, shown)
	}
	return img
}

// clip keeps both ends of a text that is too long.
func clip(text string) string {
	r := []rune(text)
	if len(r) <= longest {
		return text
	}
	const mark = " ... "
	keep := (longest - len(mark)) / 2
	return string(r[:keep]) + mark + string(r[len(r)-keep:])
}

func size(n int64) string { return fs.SizeSuffix(n).String() }

// share is n of all in percent, of which 0 and 100 are exact.
func share(n, all int64) string {
	switch p := 100 * float64(n) / float64(max(1, all)); {
	case n == 0:
		return "0 %"
	case p < 0.1:
		return "below 0.1 %"
	case p > 99.9 && n < all:
		return "above 99.9 %"
	default:
		return fmt.Sprintf("%.1f %%", p)
	}
}
