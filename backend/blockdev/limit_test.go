package blockdev

import (
	"errors"
	"os"
	"testing"

	_ "github.com/rclone/rclone/backend/memory"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/accounting"
	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
)

// All ways into an image keep --max-transfer: what goes beyond it ends as rclone's error and is no object.
func TestOperations_MaxTransfer(t *testing.T) {
	leakless(t)
	const size = 3<<20 + 5
	from := t.TempDir()
	data := edges.Contents()[1].Make(size, 1)
	write(t, from+"/image", data)
	if _, err := operations.Copy(t.Context(), newFs(t, ":memory:bucket"), nil, "image", find(t, newFs(t, from), "image")); err != nil {
		t.Fatal(err)
	}
	for name, remote := range map[string]string{
		"Local": from, "Stream": ":memory:bucket", "Blockdev": "blockdev:localhost" + from,
	} {
		t.Run(name, func(t *testing.T) {
			src := find(t, newFs(t, remote), "image")
			for _, c := range []struct {
				max  fs.SizeSuffix
				mode fs.CutoffMode
				over bool
			}{
				{-1, fs.CutoffModeHard, false},
				{size, fs.CutoffModeHard, false},
				{size - 1, fs.CutoffModeHard, true},
				{1, fs.CutoffModeHard, true},
				{1, fs.CutoffModeSoft, false},
			} {
				ctx, _ := stats(t)
				ctx, ci := fs.AddConfig(ctx)
				ci.MaxTransfer, ci.CutoffMode = c.max, c.mode
				to := t.TempDir()
				_, err := operations.Copy(ctx, newFs(t, "blockdev:localhost"+to), nil, "image", src)
				if !c.over {
					if err != nil {
						t.Errorf("%v, %v: %v", c.max, c.mode, err)
					}
					same(t, to+"/image", data)
					continue
				}
				if !errors.Is(err, accounting.ErrorMaxTransferLimitReached) || !fserrors.IsFatalError(err) {
					t.Errorf("%v, %v: %v", c.max, c.mode, err)
				}
				if left, err := os.ReadDir(to); err != nil || len(left) != 0 {
					t.Errorf("%v, %v: left %v, %v", c.max, c.mode, left, err)
				}
			}
		})
	}
}
