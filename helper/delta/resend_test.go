package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// twins returns two blocks of 4 KiB whose digests agree in the bytes that cross the wire. The numbers were found by
// trying.
func twins(t *testing.T) (a, b []byte) {
	a, b = make([]byte, 4096), make([]byte, 4096)
	binary.BigEndian.PutUint64(a, 5801)
	binary.BigEndian.PutUint64(b, 17850)
	if block.Sum(a).Short() != block.Sum(b).Short() || block.Sum(a) == block.Sum(b) {
		t.Fatal("the blocks are no twins")
	}
	return a, b
}

// Blocks that only look alike in the truncated digests are found before anything is written, and sent.
func TestTransfer_Resend(t *testing.T) {
	a, b := twins(t)
	source := image(5*block.ExtentSize+512, 1)
	before := changed(source, 4096, 16, 9)
	for _, at := range []int{1 << 20, 2<<20 + 4096*100, 3<<20 - 4096, 4 << 20} {
		copy(source[at:], a)
		copy(before[at:], b)
	}
	o := outcome{source: source, before: before, dev: memdev.FromBytes(before)}
	resends := map[int64]int{}
	o.transfer = transfer{src: memdev.FromBytes(source), tgt: o.dev, r: rangeOf(len(source), 4096), window: 8, buffer: 1 << 20}
	o.prepare = func(_, receiver *link) {
		receiver.sent = func(m wire.Message) {
			m, ok := m.(*wire.Resend)
			if !ok {
				return
			}
			i := m.(*wire.Resend).Extent
			resends[i]++
			from := i << 20
			if !bytes.Equal(o.dev.Bytes()[from:from+1<<20], before[from:from+1<<20]) {
				t.Errorf("extent %d was written before it was refused", i)
			}
		}
	}
	o.s, o.r = o.run(t)
	o.check(t)
	if len(resends) != 3 || resends[1] != 1 || resends[2] != 1 || resends[4] != 1 {
		t.Errorf("resends by extent: %v", resends)
	}
	if o.s.sum.Data <= o.r.sum.Data {
		t.Errorf("sent %d bytes, written %d: nothing was sent twice", o.s.sum.Data, o.r.sum.Data)
	}
}

// A sender whose data never matches its digest is given up after the second time, with nothing written.
func TestTransfer_ResendOnce(t *testing.T) {
	source, before := image(block.ExtentSize, 1), image(block.ExtentSize, 2)
	dev := memdev.FromBytes(before)
	tr := transfer{src: memdev.FromBytes(source), tgt: dev, r: rangeOf(len(source), 4096), window: 2, buffer: 1 << 20}
	tr.prepare = func(_, receiver *link) {
		receiver.edit = func(f *wire.Frame) {
			if f.Type == wire.TypePatch {
				f.Payload[len(f.Payload)-1] ^= 1
			}
		}
	}
	if s, r := tr.run(t); !errors.Is(r.err, wire.CodeCorrupted) || !strings.Contains(r.err.Error(), "1048576 bytes at byte 0: ") || s.err != errPeer {
		t.Errorf("sender %v, receiver %v", s.err, r.err)
	}
	if len(dev.Log()) != 0 {
		t.Errorf("written: %v", dev.Log())
	}
}

// A target that answers with another root is corrupted, for the sender too.
func TestTransfer_Roots(t *testing.T) {
	for ty, at := range map[wire.Type]func(s, r *link) *link{
		wire.TypeFinish:   func(_, r *link) *link { return r },
		wire.TypeFinished: func(s, _ *link) *link { return s },
	} {
		dev := memdev.New(4096)
		tr := transfer{src: memdev.FromBytes(image(4096, 1)), tgt: dev, r: rangeOf(4096, 4096)}
		tr.prepare = func(s, r *link) {
			at(s, r).edit = func(f *wire.Frame) {
				if f.Type == ty {
					f.Payload[0] ^= 0x80
				}
			}
		}
		s, r := tr.run(t)
		if ty == wire.TypeFinish {
			s, r = r, s
		}
		if !errors.Is(s.err, wire.CodeCorrupted) || !strings.Contains(s.err.Error(), "4096 bytes at byte 0: ") {
			t.Errorf("%#x: %v", ty, s.err)
		}
		if synced := dev.Counts().Syncs == 1; synced != (ty == wire.TypeFinished) {
			t.Errorf("%#x: synced is %v, the other end: %v", ty, synced, r.err)
		}
	}
}
