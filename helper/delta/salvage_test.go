package delta

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

var errBad = errors.New("bad sector")

func isBad(err error) bool { return errors.Is(err, errBad) }

// breakAt makes bytes of dev unreadable.
func breakAt(dev *memdev.Device, offsets ...int64) {
	for _, off := range offsets {
		dev.Inject(memdev.Fault{Op: memdev.Read, Off: off, Err: errBad})
	}
}

// units are every step-th page from the first on.
func units(first, n, step int64) (offsets []int64) {
	for i := range n {
		offsets = append(offsets, (first+i*step)<<12)
	}
	return offsets
}

func TestSalvage_Fill(t *testing.T) {
	const size = 2*block.ExtentSize + 700
	data := image(size, 1)
	for _, tt := range []struct {
		name  string
		off   int64
		n     int
		bad   []int64
		known []wire.Gap
		want  []wire.Gap
		reads int // at most, with the one that looks whether the disk is alive
	}{
		{"whole", 0, block.ExtentSize, nil, nil, nil, 1},
		{"one sector", 0, block.ExtentSize, []int64{300_001}, nil, []wire.Gap{{Offset: 299008, Length: 4096}}, 8},
		{"the first", 0, block.ExtentSize, []int64{0}, nil, []wire.Gap{{Offset: 0, Length: 4096}}, 8},
		{"the last", 1 << 20, block.ExtentSize, []int64{2<<20 - 1}, nil, []wire.Gap{{Offset: 2<<20 - 4096, Length: 4096}}, 4},
		{"a short end", 2 << 20, 700, []int64{2<<20 + 5}, nil, []wire.Gap{{Offset: 2 << 20, Length: 700}}, 3},
		{"three in a row", 0, block.ExtentSize, units(10, 3, 1), nil, []wire.Gap{{Offset: 10 << 12, Length: 3 << 12}}, 10},
		{"two places", 0, block.ExtentSize, []int64{10 << 12, 200 << 12}, nil,
			[]wire.Gap{{Offset: 10 << 12, Length: 4096}, {Offset: 200 << 12, Length: 4096}}, 14},
		{"known", 0, block.ExtentSize, []int64{10 << 12}, []wire.Gap{{Offset: 10 << 12, Length: 4096}}, []wire.Gap{{Offset: 10 << 12, Length: 4096}}, 3},
		{"beside one that is known", 0, block.ExtentSize, units(9, 3, 1), []wire.Gap{{Offset: 10 << 12, Length: 4096}},
			[]wire.Gap{{Offset: 9 << 12, Length: 3 << 12}}, 10},
		{"a ruin", 0, block.ExtentSize, units(0, 256, 1), nil, []wire.Gap{{Offset: 0, Length: 1 << 20}}, 33 + 5},
		{"every second", 0, block.ExtentSize, units(0, 128, 2), nil, nil, 66},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dev := memdev.FromBytes(data)
			breakAt(dev, tt.bad...)
			v := NewSalvage(dev, size, false, isBad)
			p := bytes.Repeat([]byte{9}, tt.n)
			gaps, err := v.Fill(p, tt.off, slices.Clone(tt.known))
			if err != nil {
				t.Fatal(err)
			}
			if tt.want != nil && !slices.Equal(gaps, tt.want) || tt.bad == nil && len(gaps) > 0 {
				t.Errorf("gaps %v", gaps)
			}
			want := bytes.Clone(data[tt.off:][:tt.n])
			clearGaps(want, tt.off, gaps)
			if !bytes.Equal(p, want) {
				t.Error("what is between the gaps is wrong")
			}
			for _, off := range tt.bad {
				if _, ok := gapAt(gaps, off); !ok {
					t.Errorf("byte %d is in no gap", off)
				}
			}
			if n := dev.Counts().Reads; n > tt.reads {
				t.Errorf("%d reads", n)
			}
			if m := (wire.Gaps{List: gaps}); len(gaps) > 0 && m.Validate() != nil {
				t.Errorf("%v cannot be sent", gaps)
			}
		})
	}
}

// A disk that is gone, or never was, is not taken for one of zeros; another failure is none of a place.
func TestSalvage_ErrGone(t *testing.T) {
	const size = 8 * block.ExtentSize
	p := make([]byte, block.ExtentSize)
	other := errors.New("other")
	for _, tt := range []struct {
		name  string
		fault memdev.Fault
		works int64 // extents that can be read before
		want  error
		says  string
	}{
		{"never", memdev.Fault{Off: memdev.Anywhere, Err: errBad}, 0, errBad, "nothing can be read any more"},
		{"after a while", memdev.Fault{Off: memdev.Anywhere, After: 3, Err: errBad}, 3, errBad, "nothing can be read any more"},
		{"another failure", memdev.Fault{Off: 5<<20 + 77, Err: other}, 5, other, "other"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dev := memdev.FromBytes(image(size, 1))
			dev.Inject(tt.fault)
			v := NewSalvage(dev, size, false, isBad)
			for i := range tt.works {
				if gaps, err := v.Fill(p, i<<20, nil); err != nil || len(gaps) > 0 {
					t.Fatal(gaps, err)
				}
			}
			before := dev.Counts().Reads
			if _, err := v.Fill(p, tt.works<<20, nil); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v", err)
			}
			if n := dev.Counts().Reads - before; n > 34+probes {
				t.Errorf("%d reads of a disk that is gone", n)
			}
		})
	}
}

// A disk of which much cannot be read, but not all, is read to its end, unless the list of places has no bounds.
func TestSalvage_Much(t *testing.T) {
	const size = 64 * block.ExtentSize
	dev := memdev.New(size)
	breakAt(dev, units(16*256, 24*256, 1)...) // 24 MiB in a row
	v := NewSalvage(dev, size, false, isBad)
	p := make([]byte, block.ExtentSize)
	var bad int64
	for off := int64(0); off < size; off += block.ExtentSize {
		gaps, err := v.Fill(p, off, nil)
		if err != nil {
			t.Fatal(err)
		}
		bad += wire.GapBytes(gaps)
	}
	if bad != 24<<20 {
		t.Errorf("%d bytes", bad)
	}
	v.count = maxGaps
	if _, err := v.Fill(p, 20<<20, nil); !errors.Is(err, errBad) {
		t.Errorf("more than can be listed: %v", err)
	}
}
