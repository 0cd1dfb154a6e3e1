package delta

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
)

// rebuild gives what a reader gets of range r of source, with ref on its side, and how the receiver ended.
func rebuild(t *testing.T, source []byte, ref Source, size int64, r block.Range) (got []byte, tr *transfer, ends [2]end, err error) {
	t.Helper()
	return rebuildFrom(t, memdev.FromBytes(source), ref, size, r)
}

func rebuildFrom(t *testing.T, source, ref Source, size int64, r block.Range) (got []byte, tr *transfer, ends [2]end, err error) {
	t.Helper()
	tr = &transfer{src: source, r: r, window: RebuildWindow}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b := NewRebuilder(ctx, ref, size, r)
		tr.tgt = b
		read := make(chan struct{})
		go func() {
			defer close(read)
			got, err = io.ReadAll(b)
		}()
		ends[0], ends[1] = tr.join(ctx)
		b.End(ends[1].err)
		<-read
	})
	return got, tr, ends, err
}

func TestRebuilder(t *testing.T) {
	for _, size := range edges.Sizes() {
		for _, was := range edges.Contents()[:3] {
			for _, is := range edges.Contents()[:3] {
				for _, refSize := range []int{size, size / 2, size + 5000} {
					source, ref := is.Make(size, 1), was.Make(refSize, 1)
					off := size / 3 / block.DefaultSize * block.DefaultSize
					r := block.Range{Offset: int64(off), Length: int64(size - off), BlockSize: block.DefaultSize}
					got, _, ends, err := rebuild(t, source, memdev.FromBytes(ref), int64(refSize), r)
					if err != nil || ends[0].err != nil || !bytes.Equal(got, source[off:]) {
						t.Errorf("%d bytes %s from %d bytes %s: %v, %v", size, is.Name, refSize, was.Name, err, ends[0].err)
					}
				}
			}
		}
	}
}

// Only what differs crosses the link, and the memory does not grow with the range.
func TestRebuilder_Wire(t *testing.T) {
	source := edges.Contents()[1].Make(3*RebuildWindow*block.ExtentSize, 2)
	ref := bytes.Clone(source)
	ref[5], ref[20<<20] = ref[5]+1, ref[20<<20]+1
	got, tr, _, err := rebuild(t, source, memdev.FromBytes(ref), int64(len(ref)), rangeOf(len(source), block.DefaultSize))
	if err != nil || !bytes.Equal(got, source) {
		t.Fatalf("content differs, %v", err)
	}
	if tr.sent > 4*block.DefaultSize {
		t.Errorf("%d bytes were sent for two blocks", tr.sent)
	}
}

// shifty is a reference whose content is another each time it is read, or that is cut after some reads.
type shifty struct {
	*memdev.Device
	reads atomic.Int64
	cut   int64
}

func (s *shifty) ReadAt(p []byte, off int64) (int, error) {
	reads := s.reads.Add(1)
	if s.cut > 0 && reads >= s.cut {
		return 0, io.EOF
	}
	n, err := s.Device.ReadAt(p, off)
	for i := 0; i < n; i += 1000 {
		p[i] ^= byte(reads)
	}
	return n, err
}

func TestRebuilder_ReferenceChanges(t *testing.T) {
	source := edges.Contents()[1].Make(20<<20, 3)
	r := rangeOf(len(source), block.DefaultSize)
	got, _, _, err := rebuild(t, source, &shifty{Device: memdev.FromBytes(source)}, int64(len(source)), r)
	if err != nil || !bytes.Equal(got, source) {
		t.Errorf("written to: content differs, %v", err)
	}
	got, _, _, err = rebuild(t, source, &shifty{Device: memdev.FromBytes(source), cut: 7}, int64(len(source)), r)
	if err == nil || !bytes.Equal(got, source[:len(got)]) {
		t.Errorf("cut: %d bytes, %v", len(got), err)
	}
}

// A reader that does not go on holds the transfer back, and one that leaves ends it.
func TestRebuilder_Abandoned(t *testing.T) {
	source := edges.Contents()[1].Make(40<<20, 4)
	synctest.Test(t, func(t *testing.T) {
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		ref := memdev.FromBytes(edges.Contents()[1].Make(len(source), 5))
		r := rangeOf(len(source), block.DefaultSize)
		b := NewRebuilder(ctx, ref, int64(len(source)), r)
		tr := &transfer{src: memdev.FromBytes(source), tgt: b, r: r, window: RebuildWindow}
		time.AfterFunc(time.Minute, func() {
			b.mu.Lock()
			if n := len(b.held); n == 0 || n > RebuildWindow {
				t.Errorf("%d extents are held for a reader that waits", n)
			}
			b.mu.Unlock()
			cancel(enough)
		})
		if _, end := tr.join(ctx); !errors.Is(end.err, enough) {
			t.Errorf("got %v", end.err)
		}
	})
}
