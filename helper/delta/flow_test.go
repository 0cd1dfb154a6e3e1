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

// However long the way is, patches and questions follow each other without waiting for answers. Only the way takes
// time here, so the round trips of a transfer can be counted. What a sender has forgotten meanwhile it reads again.
func TestTransfer_Latency(t *testing.T) {
	const extents = 6 * Hold
	size := extents * block.ExtentSize
	source := image(size, 1)
	thirds := bytes.Clone(source)
	for i := 0; i < size; i += 3 * block.ExtentSize {
		thirds[i] ^= 1
	}
	for _, delay := range []time.Duration{time.Millisecond, 20 * time.Millisecond} {
		for _, tt := range []struct {
			name   string
			before []byte
			most   int  // round trips
			again  bool // some of the source is read twice
		}{
			{"first copy", make([]byte, size), 3, false},
			{"scattered", changed(source, 4096, 100, 9), 3, true},
			{"every third differs", thirds, 3, true},
			{"equal", source, 2, false},
		} {
			t.Run(fmt.Sprintf("%v/%s", delay, tt.name), func(t *testing.T) {
				src, tgt := memdev.FromBytes(source), memdev.FromBytes(tt.before)
				tr := transfer{src: src, tgt: tgt, r: rangeOf(size, 4096), window: Window, buffer: 64 << 20, inbox: 1024, delay: delay}
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
				if again := src.Counts().BytesRead > int64(size); again != tt.again {
					t.Errorf("%d bytes of %d were read", src.Counts().BytesRead, size)
				}
				if !bytes.Equal(tgt.Bytes(), source) {
					t.Error("the target differs")
				}
			})
		}
	}
}

// onceOnly is a source that cannot be read again.
type onceOnly struct{ *memdev.Device }

func (onceOnly) Once() {}

// What cannot be read again is kept until the receiver has applied it, so the way limits it.
func TestTransfer_LatencyOnce(t *testing.T) {
	const extents = 3 * Hold
	size := extents * block.ExtentSize
	source := image(size, 1)
	src, tgt := memdev.FromBytes(source), memdev.FromBytes(changed(source, 4096, 100, 9))
	tr := transfer{src: onceOnly{src}, tgt: tgt, r: rangeOf(size, 4096), window: Window, buffer: 64 << 20, inbox: 1024, delay: 20 * time.Millisecond}
	synctest.Test(t, func(t *testing.T) {
		if s, r := tr.join(t.Context()); s.err != nil || r.err != nil {
			t.Error(s.err, r.err)
		}
	})
	if src.Counts().BytesRead != int64(size) || !bytes.Equal(tgt.Bytes(), source) {
		t.Errorf("%d bytes of %d were read", src.Counts().BytesRead, size)
	}
}

// A source that changes between its two readings is sent as it is at the second one, and both ends agree on that.
func TestTransfer_ChangesWhileForgotten(t *testing.T) {
	const extents = 3 * Hold
	size := extents * block.ExtentSize
	source := image(size, 1)
	for name, now := range map[string][]byte{"other data": image(size, 3), "zeros": make([]byte, size)} {
		src, tgt := memdev.FromBytes(source), memdev.FromBytes(image(size, 2))
		tr := transfer{src: src, tgt: tgt, r: rangeOf(size, 4096), window: Window, buffer: 64 << 20, inbox: 1024, delay: 20 * time.Millisecond}
		resent := 0
		tr.prepare = func(s, r *link) {
			var once sync.Once
			s.edit = func(f *wire.Frame) { // the first answer comes when all was read that can be
				if f.Type == wire.TypeBlocks {
					once.Do(func() { src.WriteAt(now, 0) })
				}
			}
			r.sent = func(m wire.Message) {
				if m.Type() == wire.TypeResend {
					resent++
				}
			}
		}
		synctest.Test(t, func(t *testing.T) {
			if s, r := tr.join(t.Context()); s.err != nil || r.err != nil {
				t.Errorf("%s: sender %v, receiver %v", name, s.err, r.err)
			}
		})
		got := tgt.Bytes()
		for i := range extents {
			part := got[i<<20 : (i+1)<<20]
			if !bytes.Equal(part, source[i<<20:(i+1)<<20]) && !bytes.Equal(part, now[i<<20:(i+1)<<20]) {
				t.Errorf("%s: extent %d is of neither reading", name, i)
			}
		}
		if resent == 0 || bytes.Equal(got, source) {
			t.Errorf("%s: nothing was read twice", name)
		}
	}
}

// A sparse range costs round trips by the window, not by the extent.
func TestTransfer_LatencyOfHoles(t *testing.T) {
	const extents = 3 * Window
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		tr := transfer{src: memdev.New(extents << 20), tgt: memdev.New(extents << 20), r: block.Range{Length: extents << 20, BlockSize: 4096},
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
	const window = 2 * Hold // extents
	const size = 2 * window * block.ExtentSize
	for _, tt := range []struct {
		name string
		mute wire.Type // frames of this type do not arrive
		once bool
		s, r int64 // extents that the ends read at most; the sender reads Hold at least
	}{
		{"no digests come", wire.TypeDigests, false, Hold, window},
		{"no digests come, once", wire.TypeDigests, true, Hold, window},
		{"no patch is applied", wire.TypeApplied, false, window + window, window + window}, // most are forgotten and read again
		{"no patch is applied, once", wire.TypeApplied, true, Hold, window + Hold},
		{"no block digests come", wire.TypeBlocks, false, window, window},
		{"no block digests come, once", wire.TypeBlocks, true, Hold, window},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src, tgt := memdev.FromBytes(image(size, 1)), memdev.FromBytes(image(size, 2))
			tr := transfer{src: src, tgt: tgt, r: rangeOf(size, 4096), window: window, buffer: 64 << 20, inbox: 64, mute: tt.mute}
			if tt.once {
				tr.src = onceOnly{src}
			}
			synctest.Test(t, func(t *testing.T) {
				time.AfterFunc(time.Hour, func() {
					if n := src.Counts().BytesRead >> 20; n > tt.s || n < Hold {
						t.Errorf("the sender read %d extents, expected %d at most", n, tt.s)
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

// What is told as settled is what the receiver has applied, however far the floor is.
func TestSend_Settled(t *testing.T) {
	const extents = 2 * Hold
	source := image(extents*block.ExtentSize, 1)
	for name, muted := range map[string]bool{"applied": false, "not applied": true} {
		tr := transfer{src: memdev.FromBytes(source), tgt: memdev.FromBytes(changed(source, 4096, 100, 9)),
			r: rangeOf(len(source), 4096), window: Window, buffer: 64 << 20, inbox: 1024}
		if muted {
			tr.mute = wire.TypeApplied
		}
		var last wire.Advance
		tr.prepare = func(s, _ *link) {
			if muted {
				time.AfterFunc(time.Hour, func() { tr.hangUp(errPeer) })
			}
			s.sent = func(m wire.Message) {
				if a, ok := m.(*wire.Advance); ok {
					last = *a
				}
			}
		}
		synctest.Test(t, func(t *testing.T) {
			tr.join(t.Context())
		})
		if want := map[bool]int64{false: extents, true: 0}[muted]; last.Settled != want || last.Floor != extents {
			t.Errorf("%s: %+v at the end", name, last)
		}
	}
}
