package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
)

// The digests come in order, one for each extent, and make the root.
func TestDigests(t *testing.T) {
	for _, size := range edges.Sizes() {
		for _, c := range edges.Contents() {
			data, r := c.Make(size, 1), rangeOf(size, 4096)
			root := block.NewRootHash(r)
			next := int64(0)
			err := Digests(t.Context(), memdev.FromBytes(data), r, func(i int64, d block.Digest) error {
				if i != next {
					t.Fatalf("%d comes after %d", i, next)
				}
				next++
				root.Add(d)
				return nil
			})
			if err != nil || next != r.Extents() || root.Sum() != wantRoot(data, 4096) {
				t.Errorf("%d %s: %d digests, %v", size, c.Name, next, err)
			}
		}
	}
}

// spansOf are the runs of blocks in which a and b, of one length, differ, extent by extent: found by comparing bytes.
func spansOf(a, b []byte, blockSize int) (spans []Span) {
	for at := 0; at < len(a); at += blockSize {
		n := min(blockSize, len(a)-at)
		if bytes.Equal(a[at:at+n], b[at:at+n]) {
			continue
		}
		last := len(spans) - 1
		if last >= 0 && spans[last].Offset+spans[last].Length == int64(at) && at%block.ExtentSize != 0 {
			spans[last].Length += int64(n)
		} else {
			spans = append(spans, Span{int64(at), int64(n)})
		}
	}
	return spans
}

func TestDifferences(t *testing.T) {
	for _, size := range edges.Sizes() {
		for _, c := range edges.Contents() {
			a := c.Make(size, 1)
			for name, b := range map[string][]byte{
				"same": bytes.Clone(a), "scattered": changed(a, 4096, 3, 17), "zero": make([]byte, size), "all": edges.Contents()[1].Make(size, 9),
			} {
				t.Run(fmt.Sprintf("%d %s/%s", size, c.Name, name), func(t *testing.T) {
					var got []Span
					total := 0
					roots, err := Differences(t.Context(), memdev.FromBytes(a), memdev.FromBytes(b), rangeOf(size, 4096), func(n int, runs []Span) error {
						total += n
						got = append(got, runs...)
						return nil
					})
					if want := spansOf(a, b, 4096); err != nil || total != size || !slices.Equal(got, want) {
						t.Errorf("%v in %d bytes, want %v: %v", got, total, want, err)
					}
					if roots != [2]block.Digest{wantRoot(a, 4096), wantRoot(b, 4096)} {
						t.Error("wrong roots")
					}
				})
			}
		}
	}
}

// Both end with the error of who takes, of a source, and of the context, and leave nothing behind.
func TestDifferences_Err(t *testing.T) {
	const size = 64 << 20
	full := errors.New("full")
	data := image(size, 1)
	same := func() *memdev.Device { return memdev.FromBytes(data) }
	if _, err := Differences(t.Context(), same(), same(), rangeOf(size, 4096), func(int, []Span) error { return full }); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	short := memdev.FromBytes(data[:size-1])
	if _, err := Differences(t.Context(), same(), short, rangeOf(size, 4096), func(int, []Span) error { return nil }); err == nil {
		t.Error("a source that ends early is none")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := Differences(ctx, same(), same(), rangeOf(size, 4096), func(int, []Span) error {
		cancel(full)
		return nil
	})
	if !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}
