package host

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// heldBy are the extent digests of data, and their root.
func heldBy(t *testing.T, data []byte) (all []block.Digest, root block.Digest) {
	t.Helper()
	r := rangeOf(int64(len(data)))
	sum := block.NewRootHash(r)
	err := delta.Digests(t.Context(), memdev.FromBytes(data), r, func(_ int64, d block.Digest) error {
		all = append(all, d)
		sum.Add(d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, sum.Sum()
}

// What a target holds after a transfer is learned from what passes, whatever it held before, and is what the source has.
func TestKeep(t *testing.T) {
	harness.Goroutines(t)
	for i, size := range edges.Sizes() {
		source := edges.Contents()[i%len(edges.Contents())].Make(size, 1)
		want, _ := heldBy(t, source)
		for _, old := range edges.Targets(source) {
			for _, joined := range []bool{true, false} {
				path := filepath.Join(t.TempDir(), "target")
				if old.Data != nil {
					path = imageFile(t, old.Data)
				}
				dst, r := openTarget(t, path, int64(size)), rangeOf(int64(size))
				kept := 0
				dst.Keep(func(of block.Range, digests []block.Digest) error {
					kept++
					if of != r || !slices.Equal(digests, want) {
						t.Errorf("%d %s: %d other digests of %+v", size, old.Name, len(digests), of)
					}
					return nil
				})
				var err error
				if joined {
					_, err = Join(t.Context(), opened(t, source), dst, r, func(int64) {})
				} else {
					_, err = SendTo(t.Context(), memdev.FromBytes(source), dst, r)
				}
				if err != nil || kept != 1 {
					t.Errorf("%d %s: kept %d times, %v", size, old.Name, kept, err)
				}
			}
		}
	}
}

// That nothing can be kept is an error of the transfer.
func TestKeep_Err(t *testing.T) {
	full := errors.New("full")
	source := edges.Contents()[1].Make(5000, 1)
	dst := openTarget(t, filepath.Join(t.TempDir(), "target"), 5000)
	dst.Keep(func(block.Range, []block.Digest) error { return full })
	if _, err := Join(t.Context(), opened(t, source), dst, rangeOf(5000), func(int64) {}); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}

// What is not what the target says that it holds is not kept.
func TestTally_Err(t *testing.T) {
	frame := func(m wire.Message) *wire.Frame {
		return &wire.Frame{Type: m.Type(), Payload: wire.Marshal(nil, m)}
	}
	digests := func(first int64, n int) *wire.Frame {
		m := &wire.Digests{First: first}
		for range n {
			m.Add(block.Sum(nil))
		}
		return frame(m)
	}
	r := rangeOf(3 << 20)
	s := &Session{host: &Host{name: "h"}, keep: func(block.Range, []block.Digest) error { t.Error("kept"); return nil }}
	held := s.tally(r)
	for name, err := range map[string]error{
		"a gap":             held.announced(digests(1, 1)),
		"past the end":      held.announced(digests(0, 4)),
		"patch before":      held.patched(0, block.Digest{}),
		"patch of none":     held.patched(-1, block.Digest{}),
		"no patch":          held.relayed(digests(0, 1)),
		"not all":           held.hand(s, block.NewRootHash(r).Sum()),
		"other root at end": func() error { _ = held.announced(digests(0, 3)); return held.hand(s, block.Digest{}) }(),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	s.keep = nil
	if none := s.tally(r); none.announced(digests(7, 1)) != nil || none.relayed(digests(7, 1)) != nil || none.hand(s, block.Digest{}) != nil {
		t.Error("where nothing is kept nothing is looked at")
	}
}

// The digests of what is open come in order, and the session goes on.
func TestSession_Digests(t *testing.T) {
	harness.Goroutines(t)
	for _, size := range append(edges.Sizes(), 40<<20+1) {
		data := edges.Contents()[2].Make(size, 1)
		want, root := heldBy(t, data)
		s := opened(t, data)
		var got []block.Digest
		sum, err := s.Digests(t.Context(), rangeOf(int64(size)), func(_ int64, d block.Digest) error {
			got = append(got, d)
			return nil
		})
		if err != nil || sum != root || !slices.Equal(got, want) {
			t.Errorf("%d: %d digests, %v", size, len(got), err)
		}
		usable(t, s)
	}
	full := errors.New("full")
	s := opened(t, edges.Contents()[1].Make(64<<20, 1))
	if _, err := s.Digests(t.Context(), rangeOf(64<<20), func(int64, block.Digest) error { return full }); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	usable(t, s)
}
