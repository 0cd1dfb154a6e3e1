package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Whatever fails at one end comes out of it as it was, and ends the other.
func TestTransfer_DeviceFaults(t *testing.T) {
	const size = 8*block.ExtentSize + 4000
	broken := errors.New("broken")
	source, before := image(size, 1), image(size, 2)
	clear(source[3<<20 : 5<<20])
	for _, tt := range []struct {
		name     string
		atSource bool
		fault    memdev.Fault
	}{
		{"source read first", true, memdev.Fault{Op: memdev.Read, Off: 0, Err: broken}},
		{"source read", true, memdev.Fault{Op: memdev.Read, Off: 6<<20 + 77, Err: broken}},
		{"source read last", true, memdev.Fault{Op: memdev.Read, Off: size - 1, Err: broken}},
		{"target read first", false, memdev.Fault{Op: memdev.Read, Off: 0, Err: broken}},
		{"target read", false, memdev.Fault{Op: memdev.Read, Off: 6<<20 + 77, Err: broken}},
		{"target read last", false, memdev.Fault{Op: memdev.Read, Off: size - 1, Err: broken}},
		{"write", false, memdev.Fault{Op: memdev.Write, Off: 7<<20 + 5, Err: broken}},
		{"write last", false, memdev.Fault{Op: memdev.Write, Off: size - 1, Err: broken}},
		{"zero", false, memdev.Fault{Op: memdev.Zero, Off: 4 << 20, Err: broken}},
		{"sync", false, memdev.Fault{Op: memdev.Sync, Off: memdev.Anywhere, Err: broken}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src, tgt := memdev.FromBytes(source), memdev.FromBytes(before)
			tr := transfer{src: src, tgt: tgt, r: rangeOf(size, 4096), window: 8, buffer: 1 << 16}
			faulty := tgt
			if tt.atSource {
				faulty = src
			}
			faulty.Inject(tt.fault)
			s, r := tr.run(t)
			if !tt.atSource {
				s, r = r, s
			}
			if !errors.Is(s.err, broken) || s.sum != nil {
				t.Errorf("the end that failed: %v", s.err)
			}
			if r.err != errPeer || r.sum != nil {
				t.Errorf("the other end: %v", r.err)
			}
			faulty.Heal()
			if s, r := tr.run(t); s.err != nil || r.err != nil || !bytes.Equal(tgt.Bytes(), source) {
				t.Errorf("repeated: sender %v, receiver %v", s.err, r.err)
			}
			harness.Tried(t, "disk-fault", 1)
		})
	}
}

// A source or target that has become shorter is an error that says where.
func TestTransfer_Shrunk(t *testing.T) {
	const size = 2 * block.ExtentSize
	short := memdev.FromBytes(image(size-1, 1))
	tr := transfer{src: short, tgt: memdev.New(size), r: rangeOf(size, 4096), window: 8}
	if s, _ := tr.run(t); !errors.Is(s.err, wire.CodeSource) {
		t.Errorf("short source: %v", s.err)
	}
	tr.src, tr.tgt = memdev.FromBytes(image(size, 1)), short
	if _, r := tr.run(t); r.err == nil {
		t.Error("short target was accepted")
	}
}

// Frames that carry content may arrive changed: then the transfer fails or is repaired.
func TestTransfer_Corruption(t *testing.T) {
	const size = 2*block.ExtentSize + 513
	source := image(size, 1)
	clear(source[1<<20 : 1<<20+40960])
	rnd := rand.New(rand.NewPCG(1, 2))
	repaired, failed := 0, 0
	for i := range 70 {
		before := [][]byte{make([]byte, size), changed(source, 4096, 9, 5), image(size, 2)}[i%3]
		dev := memdev.FromBytes(before)
		nth, where, flipped := rnd.IntN(4), rnd.Float64(), false
		flip := func(types ...wire.Type) func(*wire.Frame) {
			return func(f *wire.Frame) {
				for _, ty := range types {
					if f.Type == ty && !flipped {
						if nth--; nth < 0 {
							f.Payload[int(where*float64(len(f.Payload)))] ^= 1 << rnd.IntN(8)
							flipped = true
						}
					}
				}
			}
		}
		tr := transfer{src: memdev.FromBytes(source), tgt: dev, r: rangeOf(size, 4096), window: 8, buffer: 1 << 20}
		tr.prepare = func(sender, receiver *link) {
			if i%2 == 0 {
				receiver.edit = flip(wire.TypePatch, wire.TypeFinish)
			} else {
				sender.edit = flip(wire.TypeBlocks, wire.TypeDigests, wire.TypeFinished)
			}
		}
		s, r := tr.run(t)
		same := bytes.Equal(dev.Bytes(), source)
		if (s.err == nil || r.err == nil) && !same {
			t.Fatalf("%d: sender %v, receiver %v, but the target differs", i, s.err, r.err)
		}
		if s.err == errStuck || r.err == errStuck {
			t.Fatalf("%d: stuck", i)
		}
		if flipped && s.err == nil && r.err == nil {
			repaired++
		} else if flipped {
			failed++
		}
	}
	if repaired < 10 || failed < 10 {
		t.Errorf("%d repaired and %d failed: the test does not test both", repaired, failed)
	}
	harness.Tried(t, "data-changed", repaired+failed, fmt.Sprintf("%d extents were repaired, %d copies failed", repaired, failed))
}

// The stream breaks after any number of frames.
func TestTransfer_PeerVanishes(t *testing.T) {
	const size = 6 * block.ExtentSize
	vanished := errors.New("connection reset")
	for _, after := range []int{0, 1, 2, 3, 4, 5, 6} {
		for side := range 2 {
			frames := 0
			tr := transfer{src: memdev.FromBytes(image(size, 1)), tgt: memdev.FromBytes(image(size, 2)), r: rangeOf(size, 4096), window: 3, buffer: 4096}
			tr.prepare = func(sender, receiver *link) {
				[]*link{sender, receiver}[side].edit = func(*wire.Frame) {
					if frames++; frames > after {
						tr.hangUp(vanished)
					}
				}
			}
			if s, r := tr.run(t); !errors.Is(s.err, vanished) || !errors.Is(r.err, vanished) {
				t.Errorf("after %d frames: sender %v, receiver %v", after, s.err, r.err)
			}
			harness.Tried(t, "peer-vanishes", 1)
		}
	}
}

// Cancelling at any moment ends both ends with the cause.
func TestTransfer_Cancel(t *testing.T) {
	const size = 6 * block.ExtentSize
	source, before := image(size, 1), changed(image(size, 1), 4096, 3, 1)
	for i := range 30 {
		cause := fmt.Errorf("cancelled at %d", i)
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			dev := memdev.FromBytes(before)
			dev.SetDelay(time.Millisecond)
			tr := transfer{src: memdev.FromBytes(source), tgt: dev, r: rangeOf(size, 4096), window: 4, delay: 3 * time.Millisecond, buffer: 1 << 18}
			time.AfterFunc(time.Duration(i)*5*time.Millisecond+1, func() { cancel(cause) })
			s, r := tr.join(ctx)
			for name, err := range map[string]error{"sender": s.err, "receiver": r.err} {
				if err != nil && err != cause {
					t.Errorf("%s: %v", name, err)
				}
				if err == nil && !bytes.Equal(dev.Bytes(), source) {
					t.Errorf("%s: success, but the target differs", name)
				}
			}
			if i < 10 && (s.err == nil || r.err == nil) {
				t.Error("was not cancelled")
			}
		})
	}
	harness.Tried(t, "cancelled", 30)
}
