package host

import (
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// What is told while a transfer or a comparison runs adds up to its result, whatever the block size.
func TestSession_Watch(t *testing.T) {
	harness.Goroutines(t)
	for i, size := range edges.Sizes() {
		source := edges.Contents()[i%len(edges.Contents())].Make(size, 1)
		for j, old := range edges.Targets(source) {
			if old.Data == nil {
				continue
			}
			r := block.Range{Length: int64(size), BlockSize: []int{block.MinSize, block.DefaultSize, block.MaxSize}[(i+j)%3]}
			path := imageFile(t, old.Data)
			src, dst := opened(t, source), here(t)
			if _, err := dst.OpenRead(t.Context(), path); err != nil {
				t.Fatal(err)
			}
			var data, zeroed int64
			src.Watch(func(d, z int64) { data, zeroed = data+d, zeroed+z })
			said, err := Compare(t.Context(), src, dst, r, func(int64) {})
			if err != nil || said.Sender.Data != data || said.Sender.Zeroed != zeroed {
				t.Errorf("%d %s: compared %+v, told of %d and %d: %v", size, old.Name, said, data, zeroed, err)
			}
			if err := dst.Close(t.Context(), false, 0); err != nil {
				t.Fatal(err)
			}
			data, zeroed = 0, 0
			did, err := Join(t.Context(), src, openTarget(t, path, int64(size)), r, func(int64) {})
			if err != nil || did.Sender.Data != data || did.Sender.Zeroed != zeroed {
				t.Errorf("%d %s: did %+v, told of %d and %d: %v", size, old.Name, did, data, zeroed, err)
			}
		}
	}
}

// A session that is given back tells its next user nothing of the last one's.
func TestSession_Watch_Release(t *testing.T) {
	harness.Goroutines(t)
	s := session(t, newFakeHost(t, Config{}).Host)
	s.Watch(func(int64, int64) { t.Error("called") })
	s.Release()
	if s.moved != nil {
		t.Error("still watched")
	}
}

// An extent that is not of the range is told of to nobody, and ends the transfer.
func TestJoin_WatchRange(t *testing.T) {
	harness.Goroutines(t)
	for extent, ok := range map[int64]bool{0: true, 8: false, 1 << 40: false} {
		m := &wire.Patch{Runs: []wire.Run{{Count: 1}}, Data: make([]byte, 4096)}
		m.Extent = extent
		src, told := played(t, new(witness).says(m, &wire.Done{})), 0
		src.Watch(func(int64, int64) { told++ })
		if err := quickJoin(t, src, played(t, new(witness).says())); err == nil || (told == 1) != ok {
			t.Errorf("extent %d: told %d times, %v", extent, told, err)
		}
	}
}
