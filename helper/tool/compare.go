package tool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
	"github.com/rclone-blockdev/rclone-blockdev/helper/progress"
)

// blockSizeError refuses digests of different blocks, which are never equal.
type blockSizeError struct {
	name      string
	has, want int
}

func (e *blockSizeError) Error() string {
	return fmt.Sprintf("%s has digests of blocks of %s, not of %s: they cannot be compared", e.name, progress.Size(int64(e.has)), progress.Size(int64(e.want)))
}

func compare(ctx context.Context, c *call) error {
	if c.arg[0] == "-" && c.arg[1] == "-" {
		return errors.New("both arguments are standard input")
	}
	a, err := c.open(ctx, c.arg[0])
	if err != nil {
		return err
	}
	defer a.close()
	b, err := c.open(ctx, c.arg[1])
	if err != nil {
		return err
	}
	defer b.close()
	return c.compare(ctx, a, b)
}

func verify(ctx context.Context, c *call) error {
	m, err := c.open(ctx, c.arg[1])
	if err != nil {
		return err
	}
	defer m.close()
	if m.man == nil {
		return fmt.Errorf("%s: is no manifest: to compare two devices or images use the command compare", m.name)
	}
	a, err := c.openData(c.arg[0])
	if err != nil {
		return err
	}
	defer a.close()
	c.sameDevice(a, m)
	return c.compare(ctx, a, m)
}

// sameDevice gives a notice when the manifest is of another device. That may be meant:
// of a copy, for one.
func (c *call) sameDevice(a, m *side) {
	ids := identities(a.name)
	if len(m.man.IDs) == 0 || len(ids) == 0 || slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(m.man.IDs, id) }) {
		return
	}
	c.view.notice(fmt.Sprintf("%s: the manifest is of another device, %s: that has the identities %s, this one has %s",
		a.name, m.man.Path, strings.Join(m.man.IDs, ", "), strings.Join(ids, ", ")))
}

// comparison is one running compare.
type comparison struct {
	a, b   *side
	r      block.Range // what both have
	end    int64       // of the larger one
	done   *atomic.Int64
	differ manifest.Ranges
	root   block.Digest // when nothing differs
}

// compare shows the ranges in which two differ.
func (c *call) compare(ctx context.Context, a, b *side) error {
	unit, err := c.unit(a, b)
	if err != nil {
		return err
	}
	c.fit(a, b)
	c.fit(b, a)
	n := min(a.size(), b.size())
	for _, s := range []*side{a, b} {
		if s.man != nil {
			n = manifest.Whole(n, s.size())
		}
	}
	m := &comparison{a: a, b: b, end: max(a.size(), b.size()), r: block.Range{Length: n, BlockSize: unit}}
	m.differ.Show = func(off, n int64) { c.view.differs(span{off, n}) }
	r := &result{blockSize: unit, compared: true}
	return c.measured(n, r, func(done *atomic.Int64) error {
		m.done = done
		if err := m.run(ctx, c); err != nil {
			return err
		}
		return m.outcome(r)
	})
}

// run compares what both have; the rest differs.
func (m *comparison) run(ctx context.Context, c *call) error {
	var err error
	switch {
	case m.a.obj != nil && m.b.obj != nil:
		err = m.blocks(ctx, c)
	case m.a.obj != nil:
		err = m.extents(ctx, c, m.a, m.b)
	case m.b.obj != nil:
		err = m.extents(ctx, c, m.b, m.a)
	default:
		m.root = m.a.man.Root
		m.done.Store(m.r.Length)
		return manifest.Compare(m.a.man.Manifest, m.b.man.Manifest, &m.differ)
	}
	if err != nil {
		return err
	}
	m.differ.Add(m.r.Length, m.end-m.r.Length)
	m.differ.End()
	return nil
}

// blocks compares data with data.
func (m *comparison) blocks(ctx context.Context, c *call) error {
	at := int64(0)
	a, b := c.source(ctx, m.a, m.r.Length), c.source(ctx, m.b, m.r.Length)
	roots, err := delta.Differences(ctx, a, b, m.r, func(length int, runs []delta.Span) error {
		for _, s := range runs {
			m.differ.Add(s.Offset, s.Length)
		}
		at += int64(length)
		m.done.Store(at)
		return nil
	})
	m.root = roots[0]
	return err
}

// extents compares data with a manifest.
func (m *comparison) extents(ctx context.Context, c *call, data, man *side) error {
	m.root = man.man.Root
	return delta.Digests(ctx, c.source(ctx, data, m.r.Length), m.r, func(i int64, d block.Digest) error {
		want, err := man.man.Digest(i)
		if err != nil {
			return err
		}
		off, length := m.r.Extent(i)
		if d != want {
			m.differ.Add(off, int64(length))
		}
		m.done.Store(off + int64(length))
		return nil
	})
}

// outcome fills in what was found.
func (m *comparison) outcome(r *result) error {
	r.differing, r.ranges = m.differ.Bytes, m.differ.Count
	if r.ranges == 0 {
		r.root = hexDigest(m.root)
		r.text = fmt.Sprintf("%s and %s are equal: %s, root %s", m.a.name, m.b.name, progress.Size(m.end), r.root)
		return nil
	}
	r.text = fmt.Sprintf("%s and %s differ: %s of %s, in %d ranges", m.a.name, m.b.name, progress.Size(m.differ.Bytes), progress.Size(m.end), m.differ.Count)
	if m.a.size() != m.b.size() {
		r.text += fmt.Sprintf("; they have %d and %d bytes", m.a.size(), m.b.size())
	}
	return errDiffers
}
