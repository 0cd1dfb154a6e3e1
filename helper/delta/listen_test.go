package delta

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// digestsOf are the extent digests of data.
func digestsOf(t *testing.T, data []byte) (all []block.Digest) {
	t.Helper()
	err := Digests(t.Context(), memdev.FromBytes(data), rangeOf(len(data), 4096), func(_ int64, d block.Digest) error {
		all = append(all, d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The receiver of a comparison tells all its digests to a sender that only listens, through any window.
func TestListen(t *testing.T) {
	for _, size := range append(edges.Sizes(), 40<<20) {
		for _, window := range []int64{1, 2, 3, 16, 256} {
			t.Run(fmt.Sprintf("%d by %d", size, window), func(t *testing.T) {
				data := edges.Contents()[2].Make(size, 1)
				var got []block.Digest
				tr := transfer{src: memdev.FromBytes(data), tgt: memdev.FromBytes(data), window: window, buffer: 1 << 16, inbox: 4, r: rangeOf(size, 4096), dry: true}
				tr.send = func(ctx context.Context, l Link, _ Source, r block.Range, window int64) (*wire.Summary, error) {
					root, err := Listen(ctx, l, r, window, func(i int64, d block.Digest) error {
						if i != int64(len(got)) {
							t.Errorf("%d comes after %d", i, len(got))
						}
						got = append(got, d)
						return nil
					})
					return &wire.Summary{Root: root}, err
				}
				s, r := tr.run(t)
				if s.err != nil || r.err != nil {
					t.Fatalf("%v, %v", s.err, r.err)
				}
				if !slices.Equal(got, digestsOf(t, data)) || s.sum.Root != wantRoot(data, 4096) || r.sum.Root != s.sum.Root || r.sum.Equal != int64(size) {
					t.Errorf("%d digests, %+v", len(got), r.sum)
				}
			})
		}
	}
}

// digestsFrame are n digests from first on.
func digestsFrame(first int64, n int) *wire.Digests {
	m := &wire.Digests{First: first}
	for range n {
		m.Add(block.Sum(nil))
	}
	return m
}

func TestListen_Err(t *testing.T) {
	r := rangeOf(3<<20, 4096)
	full := errors.New("full")
	for _, tt := range []struct {
		name     string
		want     error
		messages []wire.Message
	}{
		{"a gap", wire.CodeProtocol, []wire.Message{digestsFrame(1, 1)}},
		{"past the window", wire.CodeProtocol, []wire.Message{digestsFrame(0, 3)}},
		{"twice", wire.CodeProtocol, []wire.Message{digestsFrame(0, 1), digestsFrame(0, 1)}},
		{"past the end", wire.CodeProtocol, []wire.Message{digestsFrame(0, 2), digestsFrame(2, 2)}},
		{"finished at once", wire.CodeProtocol, []wire.Message{&wire.Finished{}}},
		{"another root", wire.CodeCorrupted, []wire.Message{digestsFrame(0, 2), digestsFrame(2, 1), &wire.Finished{}}},
		{"blocks", wire.CodeProtocol, []wire.Message{blocks(0, 256)}},
		{"full", full, []wire.Message{digestsFrame(0, 2)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := play(func(ctx context.Context, l Link) error {
					_, err := Listen(ctx, l, r, 2, func(i int64, _ block.Digest) error {
						if errors.Is(tt.want, full) && i == 1 {
							return full
						}
						return nil
					})
					return err
				}, tt.messages...)
				if !errors.Is(err, tt.want) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}
