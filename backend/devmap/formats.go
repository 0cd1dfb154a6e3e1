package devmap

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"image/png"
	"io"
	"sync"

	svg "github.com/ajstarks/svgo"
	"golang.org/x/image/draw"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	xfont "golang.org/x/image/font"
)

// formats write a picture, by the extension of the file.
var formats = map[string]func(io.Writer, *picture) error{".png": writePNG, ".svg": writeSVG}

var frame = color.RGBA{0x80, 0x80, 0x80, 0xff}

// shades is how many greys there are between the text and what is behind it.
const shades = 16

// face is the font of pictures of pixels.
var face = sync.OnceValues(func() (xfont.Face, error) {
	parsed, err := opentype.Parse(goregular.TTF)
	if err != nil {
		return nil, err
	}
	return opentype.NewFace(parsed, &opentype.FaceOptions{Size: font, DPI: 72, Hinting: xfont.HintingFull})
})

// writePNG writes pixels of few colours, which keeps the file small.
func writePNG(w io.Writer, p *picture) error {
	letters, err := face()
	if err != nil {
		return err
	}
	palette := color.Palette{}
	for _, k := range looks {
		palette = append(palette, k.color)
	}
	for i := range shades {
		palette = append(palette, color.Gray{uint8(i * 0xff / (shades - 1))})
	}
	img := image.NewPaletted(image.Rect(0, 0, width, p.height), append(palette, frame))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	fill := func(r image.Rectangle, c color.RGBA) {
		draw.Draw(img, r.Inset(-1), image.NewUniform(frame), image.Point{}, draw.Src)
		draw.Draw(img, r, image.NewUniform(c), image.Point{}, draw.Src)
	}
	fill(p.square, looks[kinds].color)
	draw.NearestNeighbor.Scale(img, p.square, p.cells, p.cells.Bounds(), draw.Over, nil)
	for _, b := range p.boxes {
		fill(b.rect, b.color)
	}
	pen := xfont.Drawer{Dst: img, Src: image.Black, Face: letters}
	for _, l := range p.labels {
		pen.Dot = fixed.P(l.x, l.y)
		pen.DrawString(l.text)
	}
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	return encoder.Encode(w, img)
}

// writeSVG writes text and shapes. The cells are an image in it: as shapes they
// would take megabytes.
func writeSVG(w io.Writer, p *picture) error {
	var cells bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&cells, p.cells); err != nil {
		return err
	}
	out := &failing{w: w}
	s := svg.New(out)
	s.Startview(width, p.height, 0, 0, width, p.height)
	s.Title(p.title)
	s.Rect(0, 0, width, p.height, "fill:white")
	stroke := ";stroke:" + hex(frame)
	around := func(r image.Rectangle, c color.RGBA) {
		s.Rect(r.Min.X, r.Min.Y, r.Dx(), r.Dy(), "fill:"+hex(c)+stroke)
	}
	around(p.square, looks[kinds].color)
	s.Image(p.square.Min.X, p.square.Min.Y, p.square.Dx(), p.square.Dy(),
		"data:image/png;base64,"+base64.StdEncoding.EncodeToString(cells.Bytes()), "image-rendering:pixelated")
	for _, b := range p.boxes {
		around(b.rect, b.color)
	}
	s.Gstyle("font-family:sans-serif;font-size:15px")
	for _, l := range p.labels {
		s.Text(l.x, l.y, l.text)
	}
	s.Gend()
	s.End()
	return out.err
}

func hex(c color.RGBA) string {
	const digits = "0123456789abcdef"
	text := []byte{'#'}
	for _, v := range []uint8{c.R, c.G, c.B} {
		text = append(text, digits[v>>4], digits[v&15])
	}
	return string(text)
}

// failing keeps the first error of a writer, for a library that does not tell it.
type failing struct {
	w   io.Writer
	err error
}

func (f *failing) Write(p []byte) (n int, err error) {
	if f.err == nil {
		n, f.err = f.w.Write(p)
	}
	return n, f.err
}
