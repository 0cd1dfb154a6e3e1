package delta

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// A device that stores other bytes than it was given, once or always: when it is read back that is repaired, or said.
// Without, nobody can know.
func TestTransfer_ReadBack(t *testing.T) {
	const size = 5*block.ExtentSize + 700
	source := image(size, 1)
	clear(source[3<<20 : 4<<20])
	flips := []int64{5, 1<<20 + 99, 1<<20 + 500_000, size - 1}
	for name, before := range targets(source, 4096) {
		if name == "equal" {
			continue // nothing is written
		}
		for _, tt := range []struct {
			name     string
			times    int
			readBack bool
		}{{"once", 1, true}, {"always", 0, true}, {"unseen", 1, false}} {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				dev := memdev.FromBytes(before)
				for _, off := range flips {
					dev.Inject(memdev.Fault{Op: memdev.Write, Off: off, Flip: 1, Times: tt.times})
				}
				tr := transfer{src: memdev.FromBytes(source), tgt: dev, r: rangeOf(size, 4096), window: 4, buffer: 1 << 20, readBack: tt.readBack}
				s, r := tr.run(t)
				wrote := len(dev.Log())
				same := bytes.Equal(dev.Bytes(), source)
				switch {
				case name == "data for all zeros", tt.name == "once":
					if s.err != nil || r.err != nil || !same {
						t.Errorf("sender %v, receiver %v, same %v", s.err, r.err, same)
					}
					if name != "data for all zeros" && tr.repaired == 0 {
						t.Errorf("%d extents were told as repaired", tr.repaired)
					}
					if root := wantRoot(source, 4096); s.sum != nil && s.sum.Root != root || r.sum != nil && r.sum.Root != root {
						t.Error("wrong root")
					}
				case tt.name == "always":
					var e *wire.Error
					if !errors.As(r.err, &e) || e.Code != wire.CodeCorrupted || e.Offset%block.ExtentSize != 0 || s.err == nil {
						t.Fatalf("sender %v, receiver %v", s.err, r.err)
					}
					if !strings.Contains(e.Text, "bytes at byte ") || !strings.Contains(e.Text, "does not keep") {
						t.Errorf("%q does not name the place", e.Text)
					}
				case s.err != nil || same:
					t.Errorf("sender %v after %d writes, same %v", s.err, wrote, same)
				}
			})
		}
	}
}

// What was repaired is durable before success is said, and is only what was wrong.
func TestTransfer_ReadBackDurable(t *testing.T) {
	const size = 3 * block.ExtentSize
	source := image(size, 1)
	dev := memdev.New(size)
	dev.Inject(memdev.Fault{Op: memdev.Write, Off: 1<<20 + 8192, Flip: 4, Times: 1})
	tr := transfer{src: memdev.FromBytes(source), tgt: dev, r: rangeOf(size, 4096), window: 4, buffer: 1 << 20, readBack: true}
	durable := false
	tr.prepare = func(_, r *link) {
		r.sent = func(m wire.Message) {
			if m.Type() == wire.TypeFinished {
				dev.Crash()
				durable = bytes.Equal(dev.Bytes(), source)
			}
		}
	}
	if s, r := tr.run(t); s.err != nil || r.err != nil || !durable {
		t.Errorf("sender %v, receiver %v, durable %v", s.err, r.err, durable)
	}
	if log := dev.Log(); log[len(log)-1] != (memdev.Change{Off: 1<<20 + 8192, N: 4096}) {
		t.Errorf("the last write was %+v", log[len(log)-1])
	}
	if n := dev.Counts().Syncs; n != 2 {
		t.Errorf("%d syncs", n)
	}
}

// A source that cannot be read again, or has changed, cannot repair anything.
func TestTransfer_ReadBackErrSource(t *testing.T) {
	const size = block.ExtentSize
	source := image(size, 1)
	for name, src := range map[string]Source{"once": onceOnly{memdev.FromBytes(source)}, "changed": &moody{Device: memdev.FromBytes(source)}} {
		dev := memdev.New(size)
		dev.Inject(memdev.Fault{Op: memdev.Write, Off: 9, Flip: 4, Times: 1})
		tr := transfer{src: src, tgt: dev, r: rangeOf(size, 4096), window: 4, buffer: 1 << 20, readBack: true}
		s, r := tr.run(t)
		if !errors.Is(s.err, wire.CodeCorrupted) && !errors.Is(r.err, wire.CodeCorrupted) {
			t.Errorf("%s: sender %v, receiver %v", name, s.err, r.err)
		}
	}
}

// moody is a source that has other content the second time.
type moody struct {
	*memdev.Device
	reads int
}

func (m *moody) ReadAt(p []byte, off int64) (int, error) {
	n, err := m.Device.ReadAt(p, off)
	if m.reads++; m.reads > 1 {
		p[77] ^= 1
	}
	return n, err
}

// Success is said only when the target is durable: a power failure at that moment loses nothing.
func TestReceive_DurableBeforeSuccess(t *testing.T) {
	const size = 4*block.ExtentSize + 100
	source := image(size, 1)
	clear(source[1<<20 : 2<<20])
	for name, before := range targets(source, 4096) {
		dev := memdev.FromBytes(before)
		tr := transfer{src: memdev.FromBytes(source), tgt: dev, r: rangeOf(size, 4096), window: 2, buffer: 1 << 20}
		said := false
		tr.prepare = func(_, r *link) {
			r.sent = func(m wire.Message) {
				if m.Type() != wire.TypeFinished {
					return
				}
				if dev.Crash(); !bytes.Equal(dev.Bytes(), source) {
					t.Errorf("%s: success was said before the target was durable", name)
				}
				said = true
			}
		}
		if s, r := tr.run(t); s.err != nil || r.err != nil || !said {
			t.Errorf("%s: sender %v, receiver %v", name, s.err, r.err)
		}
	}
}

// A receiver that asks again and again for the same after the end is refused.
func TestSend_ErrRepair(t *testing.T) {
	zero := block.ZeroExtent(block.ExtentSize, 4096)
	for name, messages := range map[string][]wire.Message{
		"twice":     {resend(1), resend(1)},
		"backwards": {resend(1), resend(0)},
		"far away":  {resend(9)},
	} {
		synctest.Test(t, func(t *testing.T) {
			all := append([]wire.Message{digests(0, zero, zero), applied(0), applied(1)}, messages...)
			err := play(func(ctx context.Context, l Link) error {
				_, err := Send(ctx, l, memdev.FromBytes(image(2<<20, 1)), rangeOf(2<<20, 4096), 2, compress.NewEncoder(wire.CompressAuto))
				return err
			}, all...)
			if !errors.Is(err, wire.CodeProtocol) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}
