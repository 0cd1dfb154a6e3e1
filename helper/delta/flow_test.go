package delta

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// flight counts the extents that one end has asked about or sent and that the other has not answered yet.
type flight struct {
	mu        sync.Mutex
	now, most int
}

func (f *flight) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now += n
	f.most = max(f.most, f.now)
}

// However long the way is, patches and questions follow each other without waiting for answers. Only the way takes
// time here, so the round trips of a transfer can be counted.
func TestTransfer_Latency(t *testing.T) {
	const extents = 24
	size := extents * block.ExtentSize
	source := image(size, 1)
	for _, delay := range []time.Duration{time.Millisecond, 20 * time.Millisecond} {
		for _, tt := range []struct {
			name   string
			before []byte
			most   int // round trips
		}{
			{"first copy", make([]byte, size), extents/(Hold-maxWorkers) + 2},
			{"scattered", changed(source, 4096, 100, 9), 2*extents/(Hold-maxWorkers) + 2},
			{"equal", source, 2},
		} {
			t.Run(fmt.Sprintf("%v/%s", delay, tt.name), func(t *testing.T) {
				var f flight
				tr := transfer{src: memdev.FromBytes(source), tgt: memdev.FromBytes(tt.before), r: rangeOf(size, 4096),
					window: Window, buffer: 64 << 20, inbox: 1024, delay: delay}
				tr.prepare = func(s, _ *link) {
					s.sent = func(m wire.Message) {
						if ty := m.Type(); ty == wire.TypePatch {
							f.add(1)
						}
					}
					s.edit = func(fr *wire.Frame) {
						if fr.Type == wire.TypeApplied {
							f.add(-1)
						}
					}
				}
				var took time.Duration
				synctest.Test(t, func(t *testing.T) {
					start := time.Now()
					if s, r := tr.join(t.Context()); s.err != nil || r.err != nil {
						t.Error(s.err, r.err)
					}
					took = time.Since(start)
				})
				if trips := int(took / (2 * delay)); trips > tt.most {
					t.Errorf("%d round trips, expected %d at most", trips, tt.most)
				}
				if tt.name == "first copy" && f.most < Hold-maxWorkers {
					t.Errorf("%d patches were on their way at most", f.most)
				}
			})
		}
	}
}

// A sparse range costs round trips by the window, not by the extent.
func TestTransfer_LatencyOfHoles(t *testing.T) {
	const extents = 1024
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		tr := transfer{src: memdev.New(extents << 20), tgt: memdev.New(extents << 20), r: rangeOf(extents<<20, 4096),
			window: Window, buffer: 1 << 20, inbox: 16, delay: 20 * time.Millisecond}
		if s, r := tr.join(t.Context()); s.err != nil || r.err != nil {
			t.Error(s.err, r.err)
		}
		if trips := time.Since(start) / (40 * time.Millisecond); trips > extents/Window+2 {
			t.Errorf("%d round trips for %d windows", trips, extents/Window)
		}
	})
}

// An end whose peer says nothing takes only as much as it may hold.
func TestTransfer_MemoryBound(t *testing.T) {
	const size = 32 * block.ExtentSize
	for _, tt := range []struct {
		name string
		mute wire.Type // frames of this type do not arrive
		s, r int64     // extents that the ends read
	}{
		{"no digests come", wire.TypeDigests, Hold, 8},
		{"no patch is applied", wire.TypeApplied, Hold, 8 + Hold},
		{"no block digests come", wire.TypeBlocks, Hold, 8 + Hold},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src, tgt := memdev.FromBytes(image(size, 1)), memdev.FromBytes(image(size, 2))
			tr := transfer{src: src, tgt: tgt, r: rangeOf(size, 4096), window: 8, buffer: 1 << 20, inbox: 64, mute: tt.mute}
			synctest.Test(t, func(t *testing.T) {
				time.AfterFunc(time.Hour, func() {
					if n := src.Counts().BytesRead >> 20; n != tt.s {
						t.Errorf("the sender read %d extents, expected %d", n, tt.s)
					}
					if n := tgt.Counts().BytesRead >> 20; n > tt.r {
						t.Errorf("the receiver read %d extents, expected %d at most", n, tt.r)
					}
					tr.hangUp(errPeer)
				})
				tr.join(t.Context())
			})
		})
	}
}

// Small pipes, small windows and random content: nobody waits for ever, whatever the order of events.
func TestTransfer_Deadlock(t *testing.T) {
	for seed := range 50 {
		rnd := rand.New(rand.NewPCG(uint64(seed), 3))
		size := rnd.IntN(5*block.ExtentSize/2) + 1
		blockSize := block.MinSize << rnd.IntN(12)
		source, before := image(size, 1), image(size, 2)
		for range rnd.IntN(12) { // some of it zero, some equal
			at := rnd.IntN(size)
			end := min(size, at+rnd.IntN(2*block.ExtentSize))
			switch rnd.IntN(3) {
			case 0:
				clear(source[at:end])
			case 1:
				clear(before[at:end])
			case 2:
				copy(before[at:end], source[at:end])
			}
		}
		dev := memdev.FromBytes(before)
		tr := transfer{src: memdev.FromBytes(source), tgt: dev, r: rangeOf(size, blockSize),
			window: []int64{1, 1, 2, 3, 7, 256}[rnd.IntN(6)], buffer: []int{64, 4096, 1 << 20}[rnd.IntN(3)], inbox: 1}
		s, r := tr.run(t)
		if s.err != nil || r.err != nil || !bytes.Equal(dev.Bytes(), source) {
			t.Fatalf("seed %d: sender %v, receiver %v", seed, s.err, r.err)
		}
	}
}
