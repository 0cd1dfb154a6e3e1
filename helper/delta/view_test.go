package delta

import (
	"bytes"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// visible is memory that can be seen: every third extent all the way, in one or in parts, every third one is lost while
// it is looked at, and the rest must be read.
type visible struct {
	memory
	seen, lost, read atomic.Int64 // bytes
}

func (v *visible) View(off int64, n int, room []byte, use func(part []byte)) bool {
	content := v.memory[off:][:n]
	switch i := off / block.ExtentSize; {
	case i%3 == 0 && i%2 == 0:
		use(content)
		v.seen.Add(int64(n))
		return true
	case i%3 == 0:
		for len(content) > 0 {
			k := copy(room, content)
			use(room[:k])
			content = content[k:]
		}
		v.seen.Add(int64(n))
		return true
	case i%3 == 1:
		use(bytes.Repeat([]byte{0xee}, min(n, len(room))))
		v.lost.Add(int64(n))
	}
	return false
}

func (v *visible) ReadAt(p []byte, off int64) (int, error) {
	v.read.Add(int64(len(p)))
	return v.memory.ReadAt(p, off)
}

// What can be seen is not read, but for what is sent; what was lost under the eyes is read.
func TestTransfer_Visible(t *testing.T) {
	const extents = 18
	size := extents * block.ExtentSize
	content := image(size, 1)
	clear(content[3*block.ExtentSize:][:block.ExtentSize])
	clear(content[9*block.ExtentSize:][block.ExtentSize/4 : block.ExtentSize/2])
	clear(content[15*block.ExtentSize:][:block.ExtentSize/2])
	third := int64(size / 3)
	for _, c := range []struct {
		name   string
		target []byte
		sent   int64 // bytes that differ, at most
	}{
		{"identical", content, 0},
		{"scattered", changed(content, 4096, 100, 5), third / 10},
		{"first copy", make([]byte, size), third}, // what was seen before it was known to be sent
	} {
		t.Run(c.name, func(t *testing.T) {
			source, target := &visible{memory: content}, &visible{memory: bytes.Clone(c.target)}
			connect(t, source, target, rangeOf(size, 4096), Window)
			if !bytes.Equal(target.memory, content) {
				t.Fatal("the target is not what the source is")
			}
			for name, v := range map[string]*visible{"source": source, "target": target} {
				seen, lost := v.seen.Load(), v.lost.Load()
				if first := c.name == "first copy" && v == source; !first && (seen != third || lost != third) || seen > third || lost > third {
					t.Errorf("%s: %d bytes seen and %d lost, want a third of %d", name, seen, lost, size)
				}
			}
			again := source.read.Load() - (int64(size) - source.seen.Load())
			if again > c.sent || c.name == "scattered" && again == 0 {
				t.Errorf("%d bytes of the source read again, want those that differ", again)
			}
		})
	}
}

// What will be sent is read at once, and kept.
func TestScan_Sends(t *testing.T) {
	const extents = 6
	source := &visible{memory: image(extents*block.ExtentSize, 1)}
	s := newScanner(source, rangeOf(extents*block.ExtentSize, 4096), extents, true)
	s.sends = func(i int64) bool { return i >= 3 }
	var g errgroup.Group
	g.Go(func() error { return s.run(t.Context()) })
	for i := range int64(extents) {
		e, err := s.await(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		if kept := e.data != nil; kept != (i >= 3 || i%3 != 0) {
			t.Errorf("extent %d: kept: %v", i, kept)
		}
		s.recycle(e)
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if seen := source.seen.Load(); seen != block.ExtentSize {
		t.Errorf("%d bytes seen, want those of the first extent", seen)
	}
	s.retire()
}
