package host

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// fates are what a trace said of each block.
func fates(t *testing.T, size int) ([]Fate, func(off, n int64, f Fate)) {
	list := make([]Fate, (size+edges.Block-1)/edges.Block)
	return list, func(off, n int64, f Fate) {
		if off%edges.Block != 0 || n <= 0 || off+n > int64(size) {
			t.Errorf("%d bytes at %d of %d", n, off, size)
			return
		}
		for i := off / edges.Block; i <= (off+n-1)/edges.Block; i++ {
			if list[i] != 0 {
				t.Errorf("block %d is told of twice", i)
			}
			list[i] = f
		}
	}
}

// What a trace says of each block is what comparing both sides by hand says.
func TestTrace(t *testing.T) {
	for i, size := range edges.Sizes() {
		source := edges.Contents()[i%len(edges.Contents())].Make(size, 1)
		for j, old := range edges.Targets(source) {
			dry := (i+j)%2 == 0
			before := make([]byte, size)
			copy(before, old.Data)
			src, dst := opened(t, source), opened(t, before)
			transfer := Compare
			if !dry {
				path := filepath.Join(t.TempDir(), "target")
				if old.Data != nil {
					path = imageFile(t, old.Data)
				}
				dst, transfer = openTarget(t, path, int64(size)), Join
			}
			got, mark := fates(t, size)
			src.Trace(mark)
			res, err := transfer(t.Context(), src, dst, rangeOf(int64(size)), func(int64) {})
			if err != nil {
				t.Fatalf("%d %s: %v", size, old.Name, err)
			}
			empty := int64(0)
			emptySource, emptyTarget := zeroExtents(source), zeroExtents(before)
			for b, f := range got {
				off := b * edges.Block
				end := min(off+edges.Block, size)
				extent := off / block.ExtentSize
				want := fateOf(source[off:end], before[off:end], emptyTarget[extent])
				if emptySource[extent] && !emptyTarget[extent] { // nobody asks which blocks are zero already
					want = FateZeroed
				}
				if f != want {
					t.Errorf("%d %s, dry is %v: block %d is %d, want %d", size, old.Name, dry, b, f, want)
				}
				if f == FateEmpty {
					empty += int64(end - off)
				}
			}
			if res.Empty != empty {
				t.Errorf("%d %s: %d bytes are empty, want %d", size, old.Name, res.Empty, empty)
			}
		}
	}
}

// zeroExtents tells which extents are zero.
func zeroExtents(b []byte) (list []bool) {
	for start := 0; start < len(b); start += block.ExtentSize {
		list = append(list, zero(b[start:min(start+block.ExtentSize, len(b))]))
	}
	return list
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func fateOf(source, target []byte, empty bool) Fate {
	switch {
	case bytes.Equal(source, target) && empty:
		return FateEmpty
	case bytes.Equal(source, target):
		return FateEqual
	case zero(source):
		return FateZeroed
	}
	return FateChanged
}

// It ends with the use of the session.
func TestTrace_Release(t *testing.T) {
	s := opened(t, make([]byte, 4096))
	s.Trace(func(int64, int64, Fate) {})
	if err := s.Close(t.Context(), false, 0); err != nil {
		t.Fatal(err)
	}
	s.Release()
	if s.mark != nil {
		t.Error("the next user of the session is traced")
	}
}

// What is known of an extent is forgotten when it is settled: a range may be longer than the window.
func TestTracer_Window(t *testing.T) {
	const extents = 3 * wire.MaxWindow
	got := map[int64]Fate{} // by extent
	tr := &tracer{r: block.Range{Length: extents * block.ExtentSize, BlockSize: block.DefaultSize}}
	tr.mark = func(off, n int64, f Fate) {
		if n == block.ExtentSize {
			got[off/block.ExtentSize] = f
		}
	}
	for i := range int64(extents) {
		if i < wire.MaxWindow {
			tr.patch(&wire.Patch{Extent: i, Runs: []wire.Run{{Count: block.MaxPerExtent / 8}}})
		}
		tr.settle(i + 1)
	}
	for i := range int64(extents) {
		want := FateEqual
		if i < wire.MaxWindow {
			want = FateChanged
		}
		if got[i] != want {
			t.Fatalf("extent %d is %d, want %d", i, got[i], want)
		}
	}
}
