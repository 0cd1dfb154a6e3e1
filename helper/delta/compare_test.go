package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// A comparison says what the transfer after it does, writes nothing and moves next to nothing.
func TestCompare(t *testing.T) {
	for _, size := range edges.Sizes() {
		for _, c := range edges.Contents() {
			source := c.Make(size, 1)
			for name, before := range targets(source, 4096) {
				t.Run(fmt.Sprintf("%d %s/%s", size, c.Name, name), func(t *testing.T) {
					dev := memdev.FromBytes(before)
					tr := transfer{src: memdev.FromBytes(source), tgt: dev, window: 2, buffer: 1 << 20, inbox: 16, r: rangeOf(size, 4096), dry: true}
					s, r := tr.run(t)
					if s.err != nil || r.err != nil {
						t.Fatalf("sender: %v, receiver: %v", s.err, r.err)
					}
					if len(dev.Log()) != 0 || dev.Counts().Syncs != 0 || !bytes.Equal(dev.Bytes(), before) {
						t.Errorf("wrote %v, %d syncs", dev.Log(), dev.Counts().Syncs)
					}
					if limit := 200 + 5000*tr.r.Extents(); tr.sent+tr.received > limit {
						t.Errorf("%d bytes on the wire, not %d", tr.sent+tr.received, limit)
					}
					tr.dry = false
					sent, received := tr.run(t)
					if sent.err != nil || received.err != nil {
						t.Fatalf("sender: %v, receiver: %v", sent.err, received.err)
					}
					if *s.sum != *sent.sum || *r.sum != *received.sum {
						t.Errorf("compared\n%+v\n%+v, then did\n%+v\n%+v", s.sum, r.sum, sent.sum, received.sum)
					}
				})
			}
		}
	}
}

// dryPatch is patch as a comparison has it.
func dryPatch(i int64, sum block.Digest, runs ...wire.Run) *wire.Patch {
	return &wire.Patch{Extent: i, Digest: sum, Encoding: wire.EncodingNone, Runs: runs}
}

func TestCompareReceive_ErrProtocol(t *testing.T) {
	before, d := image(victimSize, 1), block.Sum([]byte("other"))
	one := wire.Run{First: 0, Count: 1}
	for _, tt := range []struct {
		name     string
		messages []wire.Message
	}{
		{"data", []wire.Message{patch(0, d, 4096, one)}},
		{"zeros as in a transfer", []wire.Message{patch(0, d, 0, wire.Run{Zero: true, Count: 256})}},
		{"nothing as in a transfer", []wire.Message{patch(0, d, 0)}},
		{"data of no run", []wire.Message{patch(0, d, 1)}},
		{"run past the extent", []wire.Message{dryPatch(0, d, wire.Run{First: 256, Count: 1})}},
		{"zero run past the extent", []wire.Message{dryPatch(0, d, wire.Run{Zero: true, First: 255, Count: 2})}},
		{"run past the end", []wire.Message{&wire.Advance{Floor: 1, Limit: 3}, dryPatch(2, d, wire.Run{Count: 3})}},
		{"patch twice", []wire.Message{dryPatch(0, d, one), dryPatch(0, d, one)}},
		{"want after the patch", []wire.Message{dryPatch(0, d, one), want(0)}},
		{"finish at once", []wire.Message{&wire.Finish{}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dev := memdev.FromBytes(before)
				err := play(func(ctx context.Context, l Link) error {
					_, err := CompareReceive(ctx, l, dev, rangeOf(victimSize, 4096), 2)
					return err
				}, tt.messages...)
				if !errors.Is(err, wire.CodeProtocol) {
					t.Errorf("%v", err)
				}
				if len(dev.Log()) != 0 || dev.Counts().Syncs != 0 {
					t.Errorf("wrote %v", dev.Log())
				}
			})
		})
	}
}

// In a transfer, a patch without its data is none.
func TestReceive_ErrNoData(t *testing.T) {
	d := block.Sum([]byte("other"))
	for name, m := range map[string]*wire.Patch{
		"data":    dryPatch(0, d, wire.Run{Count: 1}),
		"zeros":   dryPatch(0, block.ZeroExtent(1<<20, 4096), wire.Run{Zero: true, Count: 256}),
		"nothing": dryPatch(0, d),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dev := memdev.FromBytes(image(victimSize, 1))
				err := play(func(ctx context.Context, l Link) error {
					_, err := Receive(ctx, l, dev, rangeOf(victimSize, 4096), 2)
					return err
				}, m)
				if !errors.Is(err, wire.CodeProtocol) || len(dev.Log()) != 0 {
					t.Errorf("%v, wrote %v", err, dev.Log())
				}
			})
		})
	}
}

// A sender that compares has nothing to send again.
func TestCompareSend_ErrResend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := play(func(ctx context.Context, l Link) error {
			_, err := CompareSend(ctx, l, memdev.FromBytes(image(victimSize, 1)), rangeOf(victimSize, 4096), 2)
			return err
		}, digests(0, block.ZeroExtent(block.ExtentSize, 4096)), resend(0))
		if !errors.Is(err, wire.CodeProtocol) {
			t.Errorf("%v", err)
		}
	})
}

func TestRoot(t *testing.T) {
	for _, size := range edges.Sizes() {
		for _, c := range edges.Contents() {
			data := c.Make(size, 1)
			got, err := Root(t.Context(), memdev.FromBytes(data), rangeOf(size, 4096), func(int64) error { return nil })
			if err != nil || got != wantRoot(data, 4096) {
				t.Errorf("%d %s: %v, or another root", size, c.Name, err)
			}
		}
	}
}

func TestRoot_Middle(t *testing.T) {
	data := image(3<<20, 1)
	r := block.Range{Offset: 512, Length: 2<<20 + 1, BlockSize: 512}
	got, err := Root(t.Context(), memdev.FromBytes(data), r, func(int64) error { return nil })
	if err != nil || got != wantRoot(data[512:][:2<<20+1], 512) {
		t.Errorf("%v, or another root", err)
	}
}

// slow is a source whose reads take seconds each, longer than a report.
type slow struct{ Source }

func (s slow) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(3 * time.Second)
	return s.Source.ReadAt(p, off)
}

func TestRoot_Progress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 9*block.ExtentSize + 1
		src := slow{memdev.FromBytes(image(size, 1))}
		last, calls := int64(0), 0
		if _, err := Root(t.Context(), src, rangeOf(size, 4096), func(done int64) error {
			if done < last || done > size {
				t.Errorf("%d bytes after %d", done, last)
			}
			last, calls = done, calls+1
			return nil
		}); err != nil || calls < 6 || last == 0 {
			t.Errorf("%v, %d reports", err, calls)
		}
		full := errors.New("nobody listens")
		if _, err := Root(t.Context(), src, rangeOf(size, 4096), func(int64) error { return full }); !errors.Is(err, full) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(4500*time.Millisecond, func() { cancel(full) })
		if _, err := Root(ctx, src, rangeOf(size, 4096), func(int64) error { return nil }); !errors.Is(err, full) {
			t.Errorf("cancelled: got %v", err)
		}
	})
}
