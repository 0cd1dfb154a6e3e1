package blockdev

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// What was done is not done again, what was cut off is, in pieces, and each byte is shown once.
func TestParts(t *testing.T) {
	const size = 2*block.StripeSize + 5
	p := newParts(block.Stripes(size, block.DefaultSize))
	shown := int64(0)
	progress := func(n int64) { shown += n }
	first, _ := p.next(1)
	first.meter(progress)(first.Length)
	p.finish(first)
	cut, _ := p.next(1)
	meter := cut.meter(progress)
	meter(pieceSize)
	meter(3 << 20)
	p.giveBack(cut)
	if n := p.left(); n != block.StripeSize/pieceSize+1 {
		t.Errorf("%d parts are left", n)
	}
	end := int64(block.StripeSize)
	for {
		x, ok := p.next(1)
		if !ok {
			break
		}
		if x.Offset != end || x.Length > pieceSize {
			t.Errorf("%d bytes at %d, want some at %d", x.Length, x.Offset, end)
		}
		end = x.Offset + x.Length
		meter := x.meter(progress)
		for n := x.Length; n > 0; n -= block.ExtentSize {
			meter(min(n, block.ExtentSize))
		}
		p.finish(x)
	}
	if end != size || shown != size {
		t.Errorf("%d bytes done, %d shown, want %d", end, shown, size)
	}
	p.forget()
	for x, ok := p.next(1); ok; x, ok = p.next(1) {
		x.meter(progress)(x.Length)
		end -= x.Length
	}
	if end != 0 || shown != size {
		t.Errorf("%d bytes were not done again, %d shown", end, shown)
	}
}

// A stream comes in pieces that can be read again, also in other orders, until they are finished.
func TestReplay(t *testing.T) {
	data := edges.Contents()[1].Make(2*pieceSize+12345, 1)
	r := newReplay(bytes.NewReader(data), int64(len(data)), int64(len(data)), block.DefaultSize)
	read := func(x *piece) {
		t.Helper()
		got := make([]byte, len(x.buf))
		if _, err := x.ReadAt(got, x.off); err != nil || !bytes.Equal(got, data[x.off:][:len(got)]) {
			t.Errorf("piece at %d: other bytes, %v", x.off, err)
		}
	}
	next := func() *piece {
		t.Helper()
		x, err := r.next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	a := next()
	read(a)
	b := next()
	if _, err := b.ReadAt(make([]byte, 5), b.off); err != nil {
		t.Error(err)
	}
	r.giveBack(b)
	r.giveBack(a)
	for want := range 2 {
		x := next()
		if x.off != int64(want)*pieceSize {
			t.Errorf("the piece at %d comes as number %d", x.off, want)
		}
		read(x)
		read(x)
		if r.sent() != (want > 0) {
			t.Error("it is not known what can be given again")
		}
		r.finish(x)
	}
	last := next()
	read(last)
	if err := errors.Join(last.Complete(), a.Complete()); err != nil {
		t.Error(err)
	}
	if x := next(); x != nil {
		t.Errorf("one more piece at %d", x.off)
	}
}

// A stream that is too long, too short or broken is an error, whatever it was cut into.
func TestReplay_Ends(t *testing.T) {
	failure := errors.New("failure")
	for name, c := range map[string]struct {
		in   io.Reader
		want error
	}{
		"short":  {bytes.NewReader(make([]byte, pieceSize+99)), wire.CodeSource},
		"long":   {bytes.NewReader(make([]byte, pieceSize+101)), wire.CodeSource},
		"broken": {io.MultiReader(bytes.NewReader(make([]byte, pieceSize+99)), iotest.ErrReader(failure)), failure},
	} {
		r := newReplay(c.in, pieceSize+100, pieceSize+100, block.DefaultSize)
		var errs []error
		for range 2 {
			x, err := r.next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = x.ReadAt(make([]byte, len(x.buf)), x.off)
			errs = append(errs, err, x.Complete())
		}
		if errs[0] != nil || !slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, c.want) }) {
			t.Errorf("%s: %v", name, errs)
		}
	}
	empty := newReplay(bytes.NewReader(nil), 0, 0, block.DefaultSize)
	if x, err := empty.next(t.Context()); err != nil || x == nil || x.Complete() != nil {
		t.Errorf("an empty stream has no piece: %v", err)
	}
	if x, err := empty.next(t.Context()); err != nil || x != nil {
		t.Errorf("an empty stream has two pieces: %v", err)
	}
}

// Parts that lie one behind the other and were not begun can be done as one, others not.
func TestParts_Together(t *testing.T) {
	const size = 7*block.StripeSize + 5
	p := newParts(block.Stripes(size, block.DefaultSize))
	one, _ := p.next(1)
	four, _ := p.next(4)
	if one.Length != block.StripeSize || four.Offset != block.StripeSize || four.Length != 4*block.StripeSize {
		t.Errorf("%+v and %+v", one, four)
	}
	p.giveBack(one) // in pieces, before what lies behind the four
	pieces, _ := p.next(64)
	if pieces.Offset != 0 || pieces.Length != block.StripeSize {
		t.Errorf("%+v was given back", pieces)
	}
	four.meter(func(int64) {})(block.StripeSize)
	p.giveBack(four)
	begun, _ := p.next(64)
	if begun.Length != pieceSize || begun.counted != pieceSize {
		t.Errorf("%+v was begun", begun)
	}
	for range block.StripeSize/pieceSize - 1 {
		p.next(64)
	}
	rest, _ := p.next(64)
	if rest.Offset != 2*block.StripeSize || rest.Length != size-2*block.StripeSize {
		t.Errorf("%+v is the rest", rest)
	}
}
