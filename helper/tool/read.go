package tool

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
	"github.com/rclone-blockdev/rclone-blockdev/helper/progress"
)

func hexDigest(d block.Digest) string { return hex.EncodeToString(d[:]) }

// root reads a device or an image. Of a manifest it is known.
func root(ctx context.Context, c *call) error {
	s, err := c.open(ctx, c.arg[0])
	if err != nil {
		return err
	}
	defer s.close()
	unit, err := c.unit(s)
	if err != nil {
		return err
	}
	r := &result{blockSize: unit}
	return c.measured(s.size(), r, func(done *atomic.Int64) error {
		if s.man != nil {
			done.Store(s.size())
			r.root = hexDigest(s.man.Root)
		} else {
			sum := block.NewRootHash(block.Range{Length: s.size(), BlockSize: unit})
			if err := c.digests(ctx, s, unit, done, func(d block.Digest) error { sum.Add(d); return nil }); err != nil {
				return err
			}
			r.root = hexDigest(sum.Sum())
		}
		r.text = r.root + "  " + c.arg[0]
		return nil
	})
}

// digests calls each with the digest of every extent of a device or image.
func (c *call) digests(ctx context.Context, s *side, unit int, done *atomic.Int64, each func(block.Digest) error) error {
	r := block.Range{Length: s.size(), BlockSize: unit}
	return delta.Digests(ctx, c.source(ctx, s, r.Length), r, func(i int64, d block.Digest) error {
		off, length := r.Extent(i)
		done.Store(off + int64(length))
		return each(d)
	})
}

// digest writes a manifest.
func digest(ctx context.Context, c *call) error {
	s, err := c.openData(c.arg[0])
	if err != nil {
		return err
	}
	defer s.close()
	if err := c.checkOutput(); err != nil {
		return err
	}
	unit, err := c.unit(s)
	if err != nil {
		return err
	}
	r := &result{blockSize: unit, output: c.output, written: true}
	return c.measured(s.size(), r, func(done *atomic.Int64) error {
		h := manifest.Header{BlockSize: unit, Size: s.size(), Of: s.size(), Time: time.Now(), Path: full(s.name), IDs: identities(s.name)}
		write := func(w io.Writer) error { return c.manifest(ctx, s, w, h, done, r) }
		if c.output == "" {
			return write(c.Out)
		}
		return manifest.Store(c.output, write)
	})
}

// manifest writes a manifest of s to w.
func (c *call) manifest(ctx context.Context, s *side, w io.Writer, h manifest.Header, done *atomic.Int64, r *result) error {
	m, err := manifest.NewWriter(w, h)
	if err != nil {
		return err
	}
	if err := c.digests(ctx, s, h.BlockSize, done, m.Add); err != nil {
		return err
	}
	sum, err := m.Finish()
	if err != nil {
		return err
	}
	r.root, r.extents, r.zeroExtents = hexDigest(sum), h.Range().Extents(), m.Zeros()
	r.text = fmt.Sprintf("%s: %s in %d extents, %d of them zero, root %s", c.arg[0], progress.Size(h.Size), r.extents, r.zeroExtents, r.root)
	return nil
}

// checkOutput refuses to write a manifest where it would do harm, before anything is
// read.
func (c *call) checkOutput() error {
	if c.output != "" {
		if tree := device.KernelTree(filepath.Dir(full(c.output))); tree != "" {
			return fmt.Errorf("%s: nothing is created in %s: name a file elsewhere", c.output, tree)
		}
		return manifest.Replaceable(c.output)
	}
	if f, ok := c.Out.(*os.File); ok && isTerminal(f) {
		return errors.New("a manifest is not for a terminal: name a file with -o, or redirect standard output")
	}
	if c.json {
		return errors.New("the manifest and the events of --json would both go to standard output: name a file with -o")
	}
	if v, ok := c.view.(*human); ok {
		v.out = v.err
	}
	return nil
}
