package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func TestStream(t *testing.T) {
	readers := map[string]func(io.Reader) io.Reader{
		"plain": func(r io.Reader) io.Reader { return r }, "half": iotest.HalfReader, "with the end": iotest.DataErrReader,
	}
	for _, size := range edges.Sizes() {
		for _, c := range edges.Contents()[:3] {
			source := c.Make(size, 1)
			before := changed(source, 4096, 5, 17)
			for name, reader := range readers {
				t.Run(fmt.Sprintf("%d %s/%s", size, c.Name, name), func(t *testing.T) {
					o := outcome{source: source, before: before, dev: memdev.FromBytes(before)}
					o.transfer = transfer{src: NewStream(reader(bytes.NewReader(source)), int64(size)), tgt: o.dev, window: 2,
						buffer: 1 << 20, r: rangeOf(size, 4096)}
					o.s, o.r = o.run(t)
					o.check(t)
				})
			}
		}
	}
}

// One stream serves several ranges, one behind the other.
func TestStream_Ranges(t *testing.T) {
	source := image(4*block.ExtentSize+999, 1)
	dev := memdev.New(int64(len(source)))
	src := NewStream(bytes.NewReader(source), int64(len(source)))
	for _, r := range []block.Range{
		{Offset: 0, Length: 2 * block.ExtentSize, BlockSize: 4096},
		{Offset: 2 * block.ExtentSize, Length: 1 << 19, BlockSize: 4096},
		{Offset: 5 << 19, Length: int64(len(source)) - 5<<19, BlockSize: 4096},
	} {
		tr := transfer{src: src, tgt: dev, r: r, window: 2, buffer: 1 << 20}
		if s, r := tr.run(t); s.err != nil || r.err != nil {
			t.Fatal(s.err, r.err)
		}
	}
	if !bytes.Equal(dev.Bytes(), source) {
		t.Error("the target differs")
	}
}

// A stream that is not what it said never ends in success.
func TestStream_Err(t *testing.T) {
	broken := errors.New("broken")
	for _, size := range []int{0, 1, 4096, block.ExtentSize, 2*block.ExtentSize + 5} {
		source := image(size+1, 1)
		tests := []struct {
			name string
			r    io.Reader
			want error
		}{
			{"a byte too long", bytes.NewReader(source), wire.CodeSource},
			{"broken behind the end", io.MultiReader(bytes.NewReader(source[:size]), iotest.ErrReader(broken)), broken},
		}
		if size > 0 {
			tests = append(tests, []struct {
				name string
				r    io.Reader
				want error
			}{
				{"a byte too short", bytes.NewReader(source[:size-1]), wire.CodeSource},
				{"empty", bytes.NewReader(nil), wire.CodeSource},
				{"cut", io.MultiReader(bytes.NewReader(source[:size/2]), iotest.ErrReader(io.ErrUnexpectedEOF)), wire.CodeSource},
				{"broken", io.MultiReader(bytes.NewReader(source[:size/2]), iotest.ErrReader(broken)), broken},
			}...)
		}
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%d/%s", size, tt.name), func(t *testing.T) {
				dev := memdev.New(int64(size))
				tr := transfer{src: NewStream(tt.r, int64(size)), tgt: dev, r: rangeOf(size, 4096), window: 8, buffer: 1 << 20}
				s, r := tr.run(t)
				if !errors.Is(s.err, tt.want) {
					t.Errorf("sender: %v, not %v", s.err, tt.want)
				}
				if !errors.Is(r.err, errPeer) || dev.Counts().Syncs != 0 {
					t.Errorf("receiver: %v after %d syncs", r.err, dev.Counts().Syncs)
				}
			})
		}
	}
}

// A reader that hangs is waited for, and the sender ends as soon as it gives up.
func TestStream_Stop(t *testing.T) {
	cause := errors.New("enough")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		pr, pw := io.Pipe()
		defer context.AfterFunc(ctx, func() { pw.CloseWithError(cause) })()
		size := 8 * block.ExtentSize
		tr := transfer{src: NewStream(pr, int64(size)), tgt: memdev.New(int64(size)), r: rangeOf(size, 4096), window: 8}
		go func() {
			pw.Write(image(block.ExtentSize+1, 1))
			synctest.Wait()
			cancel(cause)
		}()
		// The receiver hears of the end of ctx or of the sender's, whichever comes first.
		if s, r := tr.join(ctx); s.err != cause || r.err != cause && r.err != errPeer {
			t.Errorf("sender: %v, receiver: %v", s.err, r.err)
		}
	})
}
