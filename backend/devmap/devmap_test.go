package devmap

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
)

// The cells cover the device, are whole blocks, and are as many as the grid has room for.
func TestNew(t *testing.T) {
	sizes := []int64{1 << 30, 1<<30 + 1, 1 << 40, 100<<40 + 512, 500107862016}
	for _, n := range edges.Sizes() {
		sizes = append(sizes, int64(n))
	}
	for _, size := range sizes {
		for _, unit := range []int{512, 4096, 1 << 20} {
			m := New(size, unit)
			blocks := (size + int64(unit) - 1) / int64(unit)
			if m.cell%int64(unit) != 0 || m.cell*int64(len(m.cells)) < size || len(m.cells) != m.side*m.side || m.side > maxSide ||
				m.used() > len(m.cells) || m.side > 1 && int64(len(m.cells)) > blocks || m.side < maxSide && int64(4*len(m.cells)) <= blocks {
				t.Errorf("%d in blocks of %d: %d cells of %d, side %d", size, unit, len(m.cells), m.cell, m.side)
			}
		}
	}
}

// Each cell has a place of its own, and the next one is beside it.
func TestHilbert(t *testing.T) {
	for side := 1; side <= maxSide; side *= 2 {
		seen := make([]bool, side*side)
		px, py := 0, 0
		for d := range side * side {
			x, y := hilbert(side, d)
			if x < 0 || y < 0 || x >= side || y >= side || seen[y*side+x] {
				t.Fatalf("side %d: cell %d is at %d,%d", side, d, x, y)
			}
			seen[y*side+x] = true
			if d > 0 && (x-px)*(x-px)+(y-py)*(y-py) != 1 {
				t.Fatalf("side %d: cell %d is at %d,%d, the one before at %d,%d", side, d, x, y, px, py)
			}
			px, py = x, y
		}
		if x, y := hilbert(side, 0); x != 0 || y != 0 || px != side-1 || py != 0 {
			t.Errorf("side %d: from %d,%d to %d,%d", side, x, y, px, py)
		}
	}
}

func TestMap_Mark(t *testing.T) {
	const unit = 4096
	m := New(16*unit-100, unit) // 16 cells
	for _, mark := range []struct {
		off, n int64
		kind   Kind
	}{
		{0, 16 * unit, Equal}, {unit, 2 * unit, Changed}, {unit, 1, Hole}, {4*unit + 5, unit - 5, Zeroed}, {16*unit - 101, 1, Error},
		{-1, 5, Error}, {16 * unit, 1, Error}, {3, 0, Error}, {0, 1, kinds},
	} {
		m.Mark(mark.off, mark.n, mark.kind)
	}
	for i, want := range []Kind{Equal, Changed, Changed, Equal, Zeroed, Equal, 15: Error} {
		if i < 6 || i == 15 {
			if got := m.at(i); got != want {
				t.Errorf("cell %d is %d, want %d", i, got, want)
			}
		}
	}
	if m.bytes != [kinds]int64{1, 16*unit - 100, unit - 5, 2 * unit, 1} {
		t.Errorf("%v", m.bytes)
	}
}

// Several stripes mark at once.
func TestMap_Mark_parallel(t *testing.T) {
	m := New(1<<30, 4096)
	var wg sync.WaitGroup
	for i := range int64(8) {
		wg.Go(func() {
			for off := i << 20; off < 1<<30; off += 8 << 20 {
				m.Mark(off, 1<<20, Equal)
			}
		})
	}
	wg.Wait()
	if m.bytes[Equal] != 1<<30 {
		t.Errorf("%d bytes", m.bytes[Equal])
	}
}

// The kinds differ in lightness by steps that are seen in grey.
func TestLooks(t *testing.T) {
	linear := func(v uint8) float64 {
		if c := float64(v) / 0xff; c > 0.04045 {
			return math.Pow((c+0.055)/1.055, 2.4)
		} else {
			return c / 12.92
		}
	}
	lightness := func(c color.RGBA) float64 { // L* of CIELAB
		y := 0.2126*linear(c.R) + 0.7152*linear(c.G) + 0.0722*linear(c.B)
		return 116*math.Cbrt(y) - 16
	}
	for i, a := range looks {
		for j, b := range looks[:i] {
			if d := math.Abs(lightness(a.color) - lightness(b.color)); d < 11 {
				t.Errorf("%s and %s differ by %.1f of 100 in lightness", a.name, b.name, d)
			}
			if looks[j].name == a.name {
				t.Errorf("%s twice", a.name)
			}
		}
	}
}

// sample has each kind in a quarter of a row or more.
func sample() *Map {
	m := New(64*4096, 4096) // 8 x 8
	for i := range int64(56) {
		m.Mark(i*4096, 4096, Kind(i/12))
	}
	return m
}

func save(t *testing.T, name string, layout Layout, c Caption) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	f, err := Create(path, layout)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write(sample(), c); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	return data
}

// What the picture shows at the middle of each cell is the cell.
func TestFile_PNG(t *testing.T) {
	for _, layout := range []Layout{Hilbert, Rows} {
		data := save(t, "map.PNG", layout, Caption{From: "a", To: "b", Note: "n"})
		img, err := png.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		m := sample()
		square := m.lay(Caption{From: "a", To: "b", Note: "n"}, layout).square
		for i := range m.cells {
			x, y := layout.place(m.side, i)
			scale := area / m.side
			at := image.Pt(x*scale+scale/2, y*scale+scale/2).Add(square.Min)
			if got := color.RGBAModel.Convert(img.At(at.X, at.Y)); got != looks[m.at(i)].color {
				t.Errorf("%s: cell %d has %v, want %v", layout, i, got, looks[m.at(i)].color)
			}
		}
		if len(data) > 60<<10 {
			t.Errorf("%d bytes", len(data))
		}
	}
}

// The text is in the SVG as text, whatever names there are, and the cells as an image of a pixel each.
func TestFile_SVG(t *testing.T) {
	data := save(t, "map.svg", Hilbert, Caption{From: `<a & "b">`, To: strings.Repeat("long/", 100) + "end", Note: "stopped: because"})
	var text strings.Builder
	decoder := xml.NewDecoder(bytes.NewReader(data))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := token.(xml.CharData); ok {
			text.Write(c)
			text.WriteByte('\n')
		}
	}
	for _, want := range []string{`from <a & "b">`, " ... ", "long/end", "hole, or zero on both: 48Ki, 18.8 %", "changed: 48Ki", "not reached: 32Ki", "256Ki in 64 cells of 4Ki", "stopped: because"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("lacks %q:\n%s", want, text.String())
		}
	}
	encoded := regexp.MustCompile(`data:image/png;base64,([^"]*)"`).FindSubmatch(data)
	if encoded == nil {
		t.Fatal("no image")
	}
	raw, err := base64.StdEncoding.DecodeString(string(encoded[1]))
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(raw))
	if err != nil || img.Bounds() != image.Rect(0, 0, 8, 8) {
		t.Fatal(err, img.Bounds())
	}
	m := sample()
	for i := range m.cells {
		x, y := hilbert(m.side, i)
		if got := color.RGBAModel.Convert(img.At(x, y)); got != looks[m.at(i)].color {
			t.Errorf("cell %d has %v", i, got)
		}
	}
}

// What cannot be written is refused before anything else is done, and leaves nothing.
func TestCreate_Refusals(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "dir.png"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir + "/map":          ".png or .svg",
		dir + "/map.jpg":      ".png or .svg",
		dir + "/none/map.png": "does not exist",
		dir + "/dir.png":      "is no file",
		"/dev/map.png":        "not on a disk",
		"/dev/null/x.svg":     "",
	} {
		if runtime.GOOS == "windows" && strings.HasPrefix(path, "/dev") {
			continue
		}
		if _, err := Create(path, Hilbert); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Create(dir+"/map.png", "spiral"); err == nil || !strings.Contains(err.Error(), "hilbert or rows") {
		t.Errorf("%v", err)
	}
	f, err := Create(dir+"/map.png", Hilbert)
	if err != nil {
		t.Fatal(err)
	}
	f.Discard()
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// A picture that is there is replaced as a whole.
func TestFile_Write_replaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map.png")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Create(path, Rows)
	if err != nil {
		t.Fatal(err)
	}
	if old, err := os.ReadFile(path); err != nil || string(old) != "old" {
		t.Errorf("%q, %v before it is written", old, err)
	}
	if err := f.Write(sample(), Caption{}); err != nil {
		t.Fatal(err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(now, []byte("\x89PNG")) {
		t.Errorf("%q, %v", now, err)
	}
}
