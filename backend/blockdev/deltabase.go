package blockdev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/cache"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/backend/deltafile"
	"github.com/rclone-blockdev/rclone-blockdev/backend/receipt"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
)

// deltaBase is the state that a delta is against. Without m there is none: the delta is
// full.
type deltaBase struct {
	blockSize int
	receipt   []byte           // JSON
	of        *receipt.Receipt // the same

	mu sync.Mutex
	m  *manifest.File // hold mu to ask for digests
}

func (b *deltaBase) close() {
	if b.m != nil {
		_ = b.m.Close()
	}
}

// header is that of the delta to a state of size bytes.
func (b *deltaBase) header(size int64) deltafile.Header {
	h := deltafile.Header{BlockSize: b.blockSize, Size: size, BaseSize: -1}
	if b.m != nil {
		h.BaseSize, h.BaseRoot = b.m.Size, b.m.Root
		if len(b.receipt) <= deltafile.MaxReceipt {
			h.Base = b.receipt
		}
	}
	return h
}

// digests are those of the extents of r, a part of a device of size bytes. Where nothing
// is known they are those of zeros: then nothing that is not zero is taken for known.
func (b *deltaBase) digests(r block.Range, size int64) ([]block.Digest, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := block.Range{Length: size, BlockSize: r.BlockSize}
	all := make([]block.Digest, r.Extents())
	for k := range all {
		i := r.Offset/block.ExtentSize + int64(k)
		_, length := now.Extent(i)
		all[k] = block.ZeroExtent(length, r.BlockSize)
		if b.m == nil || i >= b.m.Extents() {
			continue
		}
		var err error // an extent of another length has another digest, whatever it holds
		if all[k], err = b.m.Digest(i); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// deltaBase finds the state that since names. dir has the receipts.
func (f *Fs) deltaBase(ctx context.Context, at place, to *upload, since, dir string) (*deltaBase, error) {
	if since == "latest" {
		var err error
		if since, err = latestDelta(ctx, at, to, dir); err != nil {
			return nil, err
		}
	}
	switch {
	case since == "", since == "none":
		return &deltaBase{blockSize: block.DefaultSize}, nil
	case strings.HasSuffix(since, receipt.Ext):
		text, err := os.ReadFile(since)
		if err != nil {
			return nil, err
		}
		r, m, err := receipt.Open(since)
		if err != nil {
			return nil, err
		}
		return &deltaBase{blockSize: m.BlockSize, receipt: text, of: r, m: m}, nil
	}
	return remoteBase(ctx, since)
}

// remoteBase is the state that a delta leads to, of which only the end is read.
func remoteBase(ctx context.Context, remote string) (*deltaBase, error) {
	o, err := findObject(ctx, remote)
	if err != nil {
		return nil, err
	}
	e, err := deltafile.ReadEnd(o.Size(), remote, func(off, n int64) (io.ReadCloser, error) {
		return operations.Open(ctx, o, &fs.RangeOption{Start: off, End: off + n - 1})
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", remote, err)
	}
	b := &deltaBase{blockSize: e.Manifest.BlockSize, receipt: e.Receipt, of: new(receipt.Receipt), m: e.Manifest}
	if err := json.Unmarshal(e.Receipt, b.of); err != nil {
		b.close()
		return nil, fmt.Errorf("%s: its receipt: %w", remote, err)
	}
	return b, nil
}

// findObject finds a file on any remote.
func findObject(ctx context.Context, remote string) (fs.Object, error) {
	f, err := cache.Get(ctx, remote)
	switch {
	case errors.Is(err, fs.ErrorIsFile):
		return f.NewObject(ctx, path.Base(strings.ReplaceAll(remote, ":", "/")))
	case err == nil:
		err = fs.ErrorObjectNotFound
	}
	return nil, fmt.Errorf("%s: %w", remote, err)
}

// latestDelta is the receipt of the last delta of a device in the folder of the new one,
// and "none" when there is none.
func latestDelta(ctx context.Context, at place, to *upload, dir string) (string, error) {
	if dir == "" {
		return "", refuse("since=latest needs the receipts of the deltas before: set the option receipt of the remote to their directory, or name the last delta by since")
	}
	all, err := keptReceipts(at, dir)
	if err != nil {
		return "", err
	}
	all = slices.DeleteFunc(all, func(k keptReceipt) bool { return k.r.Delta == "" || path.Dir(k.r.Delta) != path.Dir(to.full()) })
	if len(all) == 0 {
		fs.Logf(nil, "%s: no receipt of a delta in %s: this one is full, and a chain begins with it", at, path.Dir(to.full()))
		return "none", nil
	}
	last := all[len(all)-1]
	if _, err := to.f.NewObject(ctx, path.Base(last.r.Delta)); err != nil {
		return "", refuse("%s: the last delta, which this one would follow, cannot be found: %v: name another state by since, or make a full one with since=none", last.r.Delta, err)
	}
	return last.file, nil
}
