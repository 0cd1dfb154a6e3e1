package delta

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// script is the input of a fuzz target as a source of decisions. It gives zeros at its end.
type script struct{ b []byte }

func (s *script) n(n int) int {
	if len(s.b) == 0 {
		return 0
	}
	v := int(s.b[0]) % n
	s.b = s.b[1:]
	return v
}

// raw is a frame of any type with the next bytes as its payload.
func (s *script) raw() wire.Frame {
	f := wire.Frame{Type: wire.Type(s.n(256))}
	n := min(s.n(80), len(s.b))
	f.Payload, s.b = s.b[:n], s.b[n:]
	return f
}

// addScripts seeds f with the scripts given and random ones.
func addScripts(f *testing.F, scripts ...string) {
	for _, s := range scripts {
		f.Add([]byte(s))
	}
	rnd := rand.New(rand.NewPCG(7, 7))
	for range 100 {
		b := make([]byte, 10+rnd.IntN(90))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		f.Add(b)
	}
}

// hostile plays the scripted frames to the victim, until it or the script ends. A victim that then does not end
// is a deadlock of the bubble.
func hostile(b []byte, victim func(context.Context, Link) error, next func(*script) wire.Frame) error {
	p, gone, s := newPeer(), make(chan struct{}), &script{b}
	var err error
	go func() {
		defer close(gone)
		err = victim(context.Background(), p)
	}()
	alive := true
	for alive && len(s.b) > 0 {
		if s.n(2) == 0 {
			synctest.Wait()
		}
		f := next(s)
		select {
		case p.frames <- f:
		case <-gone:
			alive = false
		}
	}
	close(p.frames)
	<-gone
	return err
}

// Whatever a receiver says, the sender ends, and never takes a wrong root for success.
func FuzzSend(f *testing.F) {
	source := image(victimSize, 1)
	clear(source[1<<20 : 1<<20+4096*200])
	root := wantRoot(source, 4096)
	r := rangeOf(victimSize, 4096)
	sums := []block.Digest{block.ZeroExtent(block.ExtentSize, 4096), block.Sum([]byte("other"))}
	for i := range r.Extents() {
		off, n := r.Extent(i)
		sums = append(sums, block.ExtentDigest(block.Digests(make([]block.Digest, 256), source[off:][:n], 4096)))
	}
	const rest = "\x00\x00\x00\x03\x00\x00\x00\x04\x00\x04\x00" // the other digests as they are, Finished with the root
	addScripts(f,
		"\x00\x00\x00\x02"+rest, // all is equal
		"\x00\x00\x00\x01"+"\x00\x01\x00\x00"+"\x00\x02\x00"+rest,                // Blocks, Applied
		"\x00\x00\x00\x01"+"\x00\x01\x00\x00"+"\x00\x03\x00"+"\x00\x02\x00"+rest, // Blocks, Resend, Applied
		"\x00\x00\x00\x00"+"\x00\x02\x00"+rest)                                   // a first copy
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			var said []block.Digest // roots, also such as came too late
			next := int64(0)
			err := hostile(b, func(ctx context.Context, l Link) error {
				_, err := Send(ctx, l, memdev.FromBytes(source), r, 2, compress.NewEncoder(wire.CompressAuto))
				return err
			}, func(s *script) wire.Frame {
				switch s.n(6) {
				case 0:
					if s.n(9) == 8 {
						return frame(digests(int64(s.n(4)), sums[0]))
					}
					next++
					return frame(digests(next-1, sums[s.n(len(sums))]))
				case 1:
					return frame(blocks(int64(s.n(4)), []int{256, 2, 1}[s.n(3)]))
				case 2:
					return frame(applied(int64(s.n(4))))
				case 3:
					return frame(resend(int64(s.n(4))))
				case 4:
					said = append(said, []block.Digest{root, sums[0]}[s.n(2)])
					return frame(&wire.Finished{Root: said[len(said)-1]})
				}
				return s.raw()
			})
			if err == nil && !slices.Contains(said, root) {
				t.Error("success with a wrong root")
			}
		})
	})
}

// Whatever a sender says, the receiver ends, writes only within its range, and only what has the digest that was
// said; success means that the target has the root that was said.
func FuzzReceive(f *testing.F) {
	const around = 4096
	before := image(victimSize+2*around, 1)
	clear(before[around : around+block.ExtentSize])
	r := block.Range{Offset: around, Length: victimSize, BlockSize: 4096}
	const rest = "\x00\x00\x02\x03\x00\x00\x03\x03\x00\x03\x00" // Advance to 2 and 3, Finish
	const block4 = "\x01\x00\x04\x00\x03\x00"                   // one run of data
	addScripts(f, rest,
		"\x00\x02\x00"+block4+"\x00"+rest,                                // a patch
		"\x00\x02\x00"+"\x01\x01\x04\x01\x00"+"\x00"+rest,                // zeros onto zeros
		"\x00\x02\x01"+block4+"\x07"+"\x00\x02\x01"+block4+"\x00"+rest,   // a wrong one, then a right one
		"\x00\x02\x01"+block4+"\x07"+"\x00\x02\x01"+block4+"\x07",        // wrong twice
		"\x00\x01\x01"+"\x00\x02\x01"+"\x01\x01\x00\x04\x00"+"\x00"+rest, // wanted, then zeroed
		"\x00\x04\x01\x02\x09"+"\x00\x02\x01"+block4+"\x00"+rest)         // with a gap that is kept
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			dev := memdev.FromBytes(before)
			var said []block.Digest    // roots, also such as came too late
			now := bytes.Clone(before) // what the target holds when all honest patches are applied
			kept := map[int64][]wire.Gap{}
			masked := func(b []byte) []byte { // b in the range, as the digests see it
				b = bytes.Clone(b[around : around+victimSize])
				for _, gaps := range kept {
					clearGaps(b, around, gaps)
				}
				return b
			}
			err := hostile(b, func(ctx context.Context, l Link) error {
				_, err := Receive(ctx, l, dev, r, 2)
				return err
			}, func(s *script) wire.Frame {
				switch s.n(6) {
				case 0:
					floor := s.n(5)
					return frame(&wire.Advance{Floor: int64(floor), Limit: int64(floor + s.n(5))})
				case 1:
					return frame(want(int64(s.n(4))))
				case 2:
					return frame(scriptedPatch(s, r, now, kept))
				case 3:
					said = append(said, []block.Digest{wantRoot(masked(now), 4096), {}}[s.n(2)])
					return frame(&wire.Finish{Root: said[len(said)-1]})
				case 4:
					i := int64(s.n(3))
					off, _ := r.Extent(i)
					m := &wire.Gaps{Keep: true, List: []wire.Gap{{Offset: off + int64(s.n(9))*500, Length: int64(1 + s.n(200)*20)}}}
					if len(said) == 0 { // after Finish nothing is taken any more
						kept[i] = m.List
					}
					return frame(m)
				}
				f := s.raw()
				if f.Type == wire.TypeGaps {
					f.Type = wire.TypeWindow // the model would have to know them
				}
				return f
			})
			after := dev.Bytes()
			for _, c := range dev.Log() {
				if c.Off < around || c.Off+c.N > around+victimSize {
					t.Errorf("wrote %+v", c)
				}
			}
			if err == nil && !slices.Contains(said, wantRoot(masked(after), 4096)) {
				t.Error("success with a wrong root")
			}
			for _, gaps := range kept {
				for _, g := range gaps {
					if err == nil && !bytes.Equal(after[g.Offset:g.End()], before[g.Offset:g.End()]) {
						t.Errorf("%+v was not kept", g)
					}
				}
			}
		})
	})
}

// scriptedPatch makes a patch of an extent, with the right digest or a wrong one. A right one is applied to now.
func scriptedPatch(s *script, r block.Range, now []byte, kept map[int64][]wire.Gap) *wire.Patch {
	i := int64(s.n(3))
	off, n := r.Extent(i)
	extent := bytes.Clone(now[off:][:n])
	p := &wire.Patch{Extent: i}
	for at := 0; s.n(4) != 0 && at < 256; {
		run := wire.Run{Zero: s.n(2) == 1, First: uint16(at + s.n(9)), Count: uint16(1 + s.n(5))}
		at = int(run.First) + int(run.Count)
		from, to := min(int(run.First)*4096, n), min(at*4096, n)
		if run.Zero {
			clear(extent[from:to])
		} else {
			p.Data = append(p.Data, bytes.Repeat([]byte{byte(1 + s.n(9))}, to-from)...)
			copy(extent[from:to], p.Data[len(p.Data)-(to-from):])
		}
		p.Runs = append(p.Runs, run)
	}
	if s.n(8) == 7 {
		return p
	}
	clearGaps(extent, off, kept[i])
	p.Digest = block.ExtentDigest(block.Digests(make([]block.Digest, 256), extent, 4096))
	copy(now[off:], extent)
	return p
}
