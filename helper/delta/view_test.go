package delta

import (
	"bytes"
	"slices"
	"sync/atomic"
	"testing"
	"time"

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
			if seen, lost := target.seen.Load(), target.lost.Load(); seen != third || lost != third {
				t.Errorf("target: %d bytes seen and %d lost, want a third of %d", seen, lost, size)
			}
			// What the target is known to lack by then is read at once: the extent of zeros, or all of a first copy.
			least := third - block.ExtentSize
			if c.name == "first copy" {
				least = 0
			}
			if seen, lost := source.seen.Load(), source.lost.Load(); seen < least || seen > third || lost > third || least > 0 && lost != third {
				t.Errorf("source: %d bytes seen and %d lost, want a third of %d", seen, lost, size)
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

// parted is memory that is seen in parts.
type parted struct{ memory }

func (p parted) View(off int64, n int, room []byte, use func(part []byte)) bool {
	for end := int(off) + n; int(off) < end; off += int64(len(room)) {
		use(p.memory[off:][:min(len(room), end-int(off))])
	}
	return true
}

// What is seen in parts has the digests of what is read.
func TestScan_Parts(t *testing.T) {
	scan := func(src Source, r block.Range) *extent {
		s := newScanner(src, r, 1, false)
		e, buf := &extent{length: int(r.Length), sums: getSums(r.BlockSize)}, make([]byte, block.ExtentSize)
		if s.seen(e, buf, func(part []byte) { s.add(e, part) }) != (s.view != nil) {
			t.Fatalf("%v: a view: %v", r, s.view != nil)
		}
		if s.view == nil {
			if err := s.read(e, buf); err != nil {
				t.Fatal(err)
			}
		}
		return e
	}
	for _, size := range []int{512, 4096, 8192, 16384, 1 << 18, 1 << 19, block.ExtentSize} {
		for _, length := range []int{1, 511, 512, partSize - 1, partSize, partSize + 1, 3 * partSize, block.ExtentSize - 100, block.ExtentSize} {
			for zeros := range 1 << 4 { // which quarters are zero
				content := image(length, 1)
				for q := range 4 {
					if from := q * partSize; zeros>>q&1 == 1 && from < length {
						clear(content[from:min(from+partSize, length)])
					}
				}
				r := block.Range{Length: int64(length), BlockSize: size}
				got, want := scan(parted{content}, r), scan(memory(content), r)
				if got.zero != want.zero || got.digest != want.digest || !slices.Equal(got.blocks, want.blocks) {
					t.Errorf("blocks of %d, %d bytes, zero quarters %04b: %v, %v", size, length, zeros, got, want)
				}
			}
		}
	}
}

// A view that does not show everything, whatever it says, is none.
func TestScan_HalfSeen(t *testing.T) {
	content := image(block.ExtentSize, 1)
	s := newScanner(half{content}, rangeOf(block.ExtentSize, 4096), 1, false)
	e := &extent{length: block.ExtentSize, sums: getSums(4096)}
	if s.seen(e, make([]byte, block.ExtentSize), func(part []byte) { s.add(e, part) }) {
		t.Error("an extent of which the half was shown counts as seen")
	}
}

type half struct{ memory }

func (h half) View(off int64, n int, _ []byte, use func(part []byte)) bool {
	use(h.memory[off:][:n/2])
	return true
}

func TestSender_Missing(t *testing.T) {
	const window = 4
	s := &sender{r: block.Range{Length: 6*block.ExtentSize + 5000, BlockSize: 4096}, window: window, theirs: make([]block.Digest, window)}
	hear := func(d block.Digest) { s.theirs[s.heard%window] = d; s.heard++ }
	zero, other := block.ZeroExtent(block.ExtentSize, 4096), block.Sum(nil)
	for i := range 7 {
		if s.missing(s.heard) {
			t.Errorf("extent %d is missing before anything was heard of it", i)
		}
		switch {
		case i == 6: // the last one is short
			hear(block.ZeroExtent(5000, 4096))
		case i%2 == 0:
			hear(zero)
		default:
			hear(other)
		}
		if s.missing(int64(i)) != (i%2 == 0) {
			t.Errorf("extent %d: missing: %v", i, i%2 != 0)
		}
	}
}

// patient is a source that shows what it has when the receiver has said all that it can.
type patient struct {
	parted
	looks atomic.Int64
}

func (p *patient) View(off int64, n int, room []byte, use func(part []byte)) bool {
	time.Sleep(time.Second) // of a clock that waits until nothing else moves
	p.looks.Add(1)
	return p.parted.View(off, n, room, use)
}

// What the receiver is known to lack is not looked at but read, unless nothing is to be sent.
func TestTransfer_Missing(t *testing.T) {
	const extents = 3 * maxWorkers
	size := extents * block.ExtentSize
	for _, dry := range []bool{false, true} {
		source := &patient{parted: parted{image(size, 1)}}
		tr := transfer{src: source, tgt: make(memory, size), r: rangeOf(size, 4096), window: extents, dry: dry}
		if s, r := tr.run(t); s.err != nil || r.err != nil {
			t.Fatalf("sender: %v, receiver: %v", s.err, r.err)
		}
		if looks := source.looks.Load(); dry && looks != extents || !dry && looks > maxWorkers {
			t.Errorf("comparing: %v: looked at %d of %d extents", dry, looks, extents)
		}
	}
}
