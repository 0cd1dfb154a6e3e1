package block

import (
	"math"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
)

// The list of edge sizes is built around the sizes of this package.
var (
	_ [0]struct{} = [edges.Block - DefaultSize]struct{}{}
	_ [0]struct{} = [edges.Extent - ExtentSize]struct{}{}
)

func sizes() []int {
	var s []int
	for size := MinSize; size <= MaxSize; size *= 2 {
		s = append(s, size)
	}
	return s
}

func TestCheckSize(t *testing.T) {
	for _, size := range sizes() {
		if err := CheckSize(size); err != nil {
			t.Errorf("CheckSize(%d): %v", size, err)
		}
	}
	for _, size := range []int{math.MinInt, -4096, -1, 0, 1, 256, 511, 513, 4095, 4097, 6144, MaxSize + 1, 2 * MaxSize, math.MaxInt} {
		if CheckSize(size) == nil {
			t.Errorf("CheckSize(%d) is nil", size)
		}
	}
}

func TestCount(t *testing.T) {
	for _, size := range sizes() {
		for _, n := range append(edges.Sizes(), size-1, size, size+1, 3*size+1) {
			want := 0
			for at := 0; at < n; at += size {
				want++
			}
			if got := Count(n, size); got != want {
				t.Errorf("Count(%d, %d) = %d, not %d", n, size, got, want)
			}
		}
	}
}

func TestRange_Extents(t *testing.T) {
	for _, size := range append(edges.Sizes(), 5*ExtentSize, 5*ExtentSize+511) {
		r := Range{Offset: 7 * MinSize, Length: int64(size), BlockSize: DefaultSize}
		at := r.Offset
		for i := range r.Extents() {
			off, n := r.Extent(i)
			if off != at || n <= 0 || n > ExtentSize || n < ExtentSize && i != r.Extents()-1 {
				t.Errorf("%d bytes: extent %d is [%d, +%d), expected at %d", size, i, off, n, at)
			}
			at += int64(n)
		}
		if at != r.Offset+r.Length {
			t.Errorf("%d bytes: the extents end at %d, not %d", size, at, r.Offset+r.Length)
		}
	}
}

func TestRange_ExtentsOfTheLongest(t *testing.T) {
	r := Range{Length: math.MaxInt64, BlockSize: DefaultSize}
	if n := r.Extents(); n != 1<<43 {
		t.Errorf("%d bytes are %d extents", r.Length, n)
	}
	if off, n := r.Extent(r.Extents() - 1); off != math.MaxInt64-ExtentSize+1 || n != ExtentSize-1 {
		t.Errorf("the last extent is [%d, +%d)", off, n)
	}
}

func TestStripes(t *testing.T) {
	const s = StripeSize
	for _, size := range []int64{0, 1, 4095, ExtentSize, s - 1, s, s + 1, 2 * s, 2*s + 1, 5*s - 1, 1<<40 + 513} {
		at := int64(0)
		stripes := Stripes(size, 8192)
		for i, r := range stripes {
			whole := r.Length == s || i == len(stripes)-1 && r.Length <= s
			if r.Offset != at || r.BlockSize != 8192 || !whole || r.Length == 0 && size != 0 {
				t.Errorf("%d bytes: stripe %d is %+v, expected at %d", size, i, r, at)
			}
			at += r.Length
		}
		if at != size || len(stripes) == 0 {
			t.Errorf("%d bytes: %d stripes end at %d", size, len(stripes), at)
		}
	}
}

func TestIsZero(t *testing.T) {
	const page = len(zeroPage)
	for _, size := range append(edges.Sizes(), page-1, page, page+1, 2*page, 2*page+1) {
		b := make([]byte, size)
		if !IsZero(b) {
			t.Errorf("%d zeros are not zero", size)
		}
		for _, at := range []int{0, 1, 511, page - 1, page, size / 2, size - 2, size - 1} {
			if at < 0 || at >= size {
				continue
			}
			b[at] = 1
			if IsZero(b) {
				t.Errorf("%d bytes with one at %d are zero", size, at)
			}
			b[at] = 0
		}
	}
}

func BenchmarkIsZero(b *testing.B) {
	data := make([]byte, ExtentSize)
	b.SetBytes(ExtentSize)
	for b.Loop() {
		IsZero(data)
	}
}
