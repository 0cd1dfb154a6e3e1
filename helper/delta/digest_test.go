package delta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
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

// The blocks of all runs are hashed together, and each gets its own digest; what no run brings stays as it is.
func TestRunDigests(t *testing.T) {
	const length = 10*4096 + 100 // the last block is a short one
	content := edges.Contents()[1].Make(length, 1)
	at := func(i int) []byte { return content[i*4096 : min((i+1)*4096, length)] }
	for name, runs := range map[string][]wire.Run{
		"none":        nil,
		"one":         {{First: 3, Count: 1}},
		"the last":    {{First: 10, Count: 1}},
		"all":         {{First: 0, Count: 11}},
		"several":     {{First: 0, Count: 2}, {First: 4, Count: 1}, {First: 8, Count: 3}},
		"zeros among": {{First: 1, Count: 1}, {Zero: true, First: 2, Count: 2}, {First: 5, Count: 2}, {Zero: true, First: 10, Count: 1}},
	} {
		sums, want, data := make([]block.Digest, 11), make([]block.Digest, 11), []byte(nil)
		for _, r := range runs {
			for i := int(r.First); i < int(r.First+r.Count) && !r.Zero; i++ {
				data, want[i] = append(data, at(i)...), sha256.Sum256(at(i))
			}
		}
		runDigests(sums, make([]block.Digest, 11), runs, data, 4096)
		if !slices.Equal(sums, want) {
			t.Errorf("%s: other digests than those of the blocks", name)
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
