// Package devmap draws what became of each part of a device, as a picture of cells
// on a Hilbert curve or in rows.
//
// A Map has a fixed grid, whatever the size of the device is: it takes 256 KiB.
package devmap

import "sync"

// Kind is what a part of a device turned out to be.
type Kind uint8

// The kinds. A cell in which there are several shows the last of them: what is rare
// and matters is seen also where a cell is large.
const (
	Hole    Kind = iota // zero on both ends
	Equal               // left alone
	Zeroed              // became zero
	Changed             // was moved and written
	Error               // could not be read or written
	kinds
)

// maxSide is the number of cells in a row of the largest grid.
const maxSide = 512

// Map collects what became of the parts of a device.
type Map struct {
	size int64 // bytes
	cell int64 // bytes of a cell
	side int   // cells in a row, a power of two

	mu    sync.Mutex
	cells []uint8      // the kinds in each, a bit for each kind; hold mu
	bytes [kinds]int64 // hold mu
}

// New makes the map of a device of size bytes that is compared in blocks of
// blockSize bytes. A cell is a whole number of blocks.
func New(size int64, blockSize int) *Map {
	unit := int64(blockSize)
	blocks := max(1, (size+unit-1)/unit)
	side := 1
	for side < maxSide && int64(4*side*side) <= blocks {
		side *= 2
	}
	count := int64(side * side)
	return &Map{size: size, cell: (blocks + count - 1) / count * unit, side: side, cells: make([]uint8, count)}
}

// Mark notes that n bytes from off on are of a kind. It may be called from several
// goroutines, and again for the same bytes: what was noted before stays.
func (m *Map) Mark(off, n int64, k Kind) {
	end := min(off+n, m.size)
	if off < 0 || off >= end || k >= kinds {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := off / m.cell; i <= (end-1)/m.cell; i++ {
		m.cells[i] |= 1 << k
	}
	m.bytes[k] += end - off
}

// Total sets the number of bytes of a kind in the legend. Without it that is the sum
// of what was marked, in which bytes that were marked twice are counted twice.
func (m *Map) Total(k Kind, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes[k] = n
}

// at is the kind that cell i shows, kinds for none.
func (m *Map) at(i int) Kind {
	for k := kinds; k > 0; k-- {
		if m.cells[i]&(1<<(k-1)) != 0 {
			return k - 1
		}
	}
	return kinds
}

// used is the number of cells that stand for a part of the device.
func (m *Map) used() int { return int((m.size + m.cell - 1) / m.cell) }

// Layout is the order of the cells.
type Layout string

// The layouts.
const (
	Hilbert Layout = "hilbert" // what is close on the device is close in the picture
	Rows    Layout = "rows"    // as text is written
)

// place is where cell i is.
func (l Layout) place(side, i int) (x, y int) {
	if l == Rows {
		return i % side, i / side
	}
	return hilbert(side, i)
}

// hilbert is the place of cell d on the Hilbert curve through a square of side
// cells, which is a power of two. It begins at the top left and ends at the top
// right.
func hilbert(side, d int) (x, y int) {
	for s := 1; s < side; s *= 2 {
		right := d / 2 & 1
		down := (d ^ right) & 1
		if down == 0 {
			if right == 1 {
				x, y = s-1-x, s-1-y
			}
			x, y = y, x
		}
		x, y = x+s*right, y+s*down
		d /= 4
	}
	return x, y
}
