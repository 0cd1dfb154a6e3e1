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

// proving is a device that is read again.
type proving struct {
	*memdev.Device
	all  bool
	read []int64 // offsets read again
}

func (p *proving) ProveAll() bool { return p.all }

func (p *proving) ReadBack(b []byte, off int64) error {
	p.read = append(p.read, off)
	_, err := p.ReadAt(b, off)
	if off+int64(len(b)) == p.Size() {
		err = nil // io.EOF comes with the last bytes
	}
	return err
}

// A byte that the medium changes as it is written is found and named, and only when it is looked for.
func TestVerify(t *testing.T) {
	const size = 4*block.ExtentSize + 5000
	source, before := image(size, 1), image(size, 1)
	copy(before[block.ExtentSize+8192:], make([]byte, 4096))
	copy(before[4*block.ExtentSize:], image(5000, 9))
	flips := map[string]int64{"middle": block.ExtentSize + 8192 + 77, "short last extent": size - 1}
	for name, at := range flips {
		for _, all := range []bool{false, true} {
			tgt := &proving{Device: memdev.FromBytes(slices.Clone(before)), all: all}
			tgt.Inject(memdev.Fault{Op: memdev.Write, Off: at, Flip: 1})
			tr := transfer{src: memdev.FromBytes(source), tgt: tgt, r: rangeOf(size, 4096), window: 8, buffer: 1 << 16}
			_, r := tr.run(t)
			extent := at / block.ExtentSize * block.ExtentSize
			var we *wire.Error
			if !errors.As(r.err, &we) || we.Code != wire.CodeCorrupted || we.Offset != extent || !strings.Contains(we.Text, "from the medium") {
				t.Errorf("%s, all %t: %v", name, all, r.err)
			}
			trusting := memdev.FromBytes(slices.Clone(before))
			trusting.Inject(memdev.Fault{Op: memdev.Write, Off: at, Flip: 1})
			tr.tgt = trusting
			if s, r := tr.run(t); s.err != nil || r.err != nil || bytes.Equal(trusting.Bytes(), source) {
				t.Errorf("%s: without it: %v, %v", name, s.err, r.err)
			}
		}
	}
	for all, want := range map[bool][]int64{false: {block.ExtentSize, 4 * block.ExtentSize}, true: {0, 1 << 20, 2 << 20, 3 << 20, 4 << 20}} {
		tgt := &proving{Device: memdev.FromBytes(slices.Clone(before)), all: all}
		tr := transfer{src: memdev.FromBytes(source), tgt: tgt, r: rangeOf(size, 4096), window: 8, buffer: 1 << 16}
		if s, r := tr.run(t); s.err != nil || r.err != nil || !bytes.Equal(tgt.Bytes(), source) {
			t.Errorf("all %t: %v, %v", all, s.err, r.err)
		}
		slices.Sort(tgt.read)
		if !slices.Equal(tgt.read, want) {
			t.Errorf("all %t: read again at %d", all, tgt.read)
		}
	}
}

// What waits to be read again is bounded: it is read in batches.
func TestVerify_Batches(t *testing.T) {
	const size = (2*proofBatch + 300) * block.ExtentSize
	tgt := &proving{Device: memdev.New(size), all: true}
	tgt.Inject(memdev.Fault{Op: memdev.Write, Off: 5, Flip: 1})
	src := memdev.New(size)
	if _, err := src.WriteAt(image(4096, 3), 0); err != nil {
		t.Fatal(err)
	}
	tr := transfer{src: src, tgt: tgt, r: rangeOf(size, 4096), window: Window, buffer: 1 << 16}
	if _, r := tr.run(t); !errors.Is(r.err, wire.CodeCorrupted) {
		t.Errorf("%v", r.err)
	}
	if len(tgt.read) == 0 || len(tgt.read) > 10 {
		t.Errorf("%d extents read again before the first was found", len(tgt.read))
	}
}
