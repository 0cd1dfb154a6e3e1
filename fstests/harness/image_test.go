package harness

import (
	"bytes"
	"os"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
)

func TestImage_Write(t *testing.T) {
	im := Image{Size: 16<<20 + 777, Hole: 0.25, Zero: 0.25, Text: 0.25, Seed: 3}
	path := im.File(t)
	data := ReadBack(t, path)
	if int64(len(data)) != im.Size {
		t.Fatalf("image has %d bytes, want %d", len(data), im.Size)
	}
	if SHA256(t, path) != SHA256(t, im.File(t)) {
		t.Error("the same description gave two different images")
	}
	zero := 0
	for area := range bytesIn(data, 64<<10) {
		if len(bytes.Trim(area, "\x00")) == 0 {
			zero++
		}
	}
	if share := float64(zero) / 256; share < 0.35 || share > 0.65 {
		t.Errorf("%.2f of the areas are zero, want about a half", share)
	}
	if got := Allocated(t, path); got > im.Size*7/8 {
		t.Errorf("image occupies %d of %d bytes, so it has no holes", got, im.Size)
	}
}

func bytesIn(data []byte, n int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			k := min(n, len(data))
			if !yield(data[:k]) {
				return
			}
			data = data[k:]
		}
	}
}

func TestScatter(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(testing.TB, string, float64, uint64) int64
		runs   bool // many separate runs of changed blocks
	}{{"Scatter", Scatter, true}, {"Gather", Gather, false}} {
		t.Run(c.name, func(t *testing.T) {
			path := Image{Size: 8<<20 + 100}.File(t)
			before := ReadBack(t, path)
			changed := c.change(t, path, 0.1, 5)
			after := ReadBack(t, path)
			blocks, runs, last := int64(0), 0, false
			for at := 0; at < len(before); at += BlockSize {
				end := min(at+BlockSize, len(before))
				differs := !bytes.Equal(before[at:end], after[at:end])
				if differs {
					blocks += int64(end - at)
				}
				if differs && !last {
					runs++
				}
				last = differs
			}
			if blocks != changed || blocks < int64(len(before))/10-BlockSize {
				t.Errorf("%d bytes in changed blocks, %d reported", blocks, changed)
			}
			if (runs > 100) != c.runs || runs == 0 {
				t.Errorf("the changes lie in %d places", runs)
			}
		})
	}
}

func TestScatter_smallest(t *testing.T) {
	for _, size := range edges.Sizes() {
		path := Image{Size: int64(size)}.File(t)
		if changed := Scatter(t, path, 1, 2); changed != int64(size) {
			t.Errorf("changing all of %d bytes changed %d", size, changed)
		}
		st, err := os.Stat(path)
		if err != nil || st.Size() != int64(size) {
			t.Errorf("image of %d bytes is now %v, %v", size, st.Size(), err)
		}
	}
}
