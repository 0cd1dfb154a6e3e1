package blockdev

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/backend/deltafile"
	"github.com/rclone-blockdev/rclone-blockdev/backend/receipt"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// collecting is the making of a delta: stripes of the device, several at once, of which
// the extents that have changed become records.
type collecting struct {
	ctx     context.Context
	o       *Object // of the messages
	from    place
	source  *lease
	base    *deltaBase
	around  *user // of the device
	parts   *parts
	report  *report
	resume  *resume
	sharing sharing
	keeper  *receipt.Keeper
	name    string // of the delta

	mu   sync.Mutex
	w    *deltafile.Writer    // hold mu
	sent map[int64]*differing // extents of parts that are not finished; hold mu

	receipt string // file, when it was written
	root    string // hex
}

// differing is an extent that was found to differ, and may have a record.
type differing struct {
	digest       block.Digest
	data, length int
	before       bool // in a try before, when the connection was lost
}

// open opens the device.
func (c *collecting) open(ctx context.Context) (err error) {
	c.ctx = ctx
	if c.source, err = openWithin(ctx, c.from, wire.ReadStop, c.around, false); err != nil {
		return explain(err)
	}
	if c.base.m != nil {
		warnOfOther(c.from, c.base.of, c.source.receiptEnd(ctx, c.from).IDs)
	}
	c.parts = newParts(block.Stripes(c.size(), c.base.blockSize))
	return nil
}

// size is that of the device.
func (c *collecting) size() int64 { return c.source.opened.Size }

// write writes the delta to w.
func (c *collecting) write(ctx context.Context, w io.Writer) (err error) {
	if c.w, err = deltafile.NewWriter(w, c.base.header(c.size())); err != nil {
		return err
	}
	return c.fill(ctx)
}

// fill writes all but the header.
func (c *collecting) fill(ctx context.Context) error {
	err := c.resume.run(ctx, c.stripes, c.reopen)
	if err == nil {
		err = c.around.check(ctx, c.source.made)
	}
	if err != nil {
		return c.around.explain(ctx, err)
	}
	if err := c.writeReceipt(); err != nil {
		return err
	}
	text, err := os.ReadFile(c.receipt)
	if err != nil {
		return err
	}
	r, err := receipt.Read(c.receipt)
	if err != nil {
		return err
	}
	file := filepath.Join(filepath.Dir(c.receipt), r.Manifest)
	m, err := manifest.Open(file)
	if err != nil {
		return err
	}
	defer m.Close()
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	return c.w.Finish(text, in, info.Size(), m.Root)
}

// stripes does all that is left.
func (c *collecting) stripes(ctx context.Context) error {
	streams := min(max(c.o.fs.opt.Streams, 1), c.parts.left())
	if c.source.opened.Entry.Rotational {
		streams = 1
	}
	lead := func(ctx context.Context) error { return c.work(ctx, c.source) }
	return c.sharing.run(ctx, c.o, streams, lead, func(ctx context.Context) (func() error, error) {
		l, err := c.source.again(ctx)
		return func() error {
			defer l.close()
			return c.work(ctx, l)
		}, err
	})
}

// work does parts until none is left.
func (c *collecting) work(ctx context.Context, l *lease) error {
	defer c.report.join(l)()
	squeeze := compress.NewEncoder(wire.CompressZstd)
	for {
		p, ok := c.parts.next(1)
		if !ok {
			return context.Cause(ctx)
		}
		if err := c.part(ctx, l, p.Range, squeeze); err != nil {
			c.parts.giveBack(p)
			return err
		}
		c.parts.finish(p)
		c.resume.progress()
	}
}

// part takes in what has changed in r.
func (c *collecting) part(ctx context.Context, l *lease, r block.Range, squeeze *compress.Encoder) error {
	known, err := c.known(r)
	if err != nil {
		return err
	}
	c.sharing.tell(l)
	res, err := l.s.Collect(ctx, r, known, func(ch *delta.Change) error { return c.add(r, ch, squeeze) })
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range r.Extents() {
		x := c.sent[r.Offset/block.ExtentSize+i]
		if x == nil {
			continue
		}
		if x.before { // it was counted as equal to what was sent then
			res.Receiver.Equal -= int64(x.length)
			res.Receiver.Data += int64(x.data)
			res.Receiver.Zeroed += int64(x.length - x.data)
		}
		delete(c.sent, r.Offset/block.ExtentSize+i)
	}
	c.report.add(res)
	return c.keeper.Add(r, known)
}

// known are the digests that r is compared with. Of an extent that was found to differ in
// a try before, that counts: when it has changed again, even back, it must have another
// record.
func (c *collecting) known(r block.Range) ([]block.Digest, error) {
	all, err := c.base.digests(r, c.size())
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range all {
		if x := c.sent[r.Offset/block.ExtentSize+int64(i)]; x != nil {
			all[i], x.before = x.digest, true
		}
	}
	return all, err
}

// add writes a record. Extents of zeros have none: the manifest tells.
func (c *collecting) add(r block.Range, ch *delta.Change, squeeze *compress.Encoder) error {
	rec := &deltafile.Record{Extent: r.Offset/block.ExtentSize + ch.Extent, Digest: ch.Digest, Encoding: ch.Encoding, Data: ch.Encoded}
	zero := ch.Digest == block.ZeroExtent(ch.Length, r.BlockSize)
	if !zero {
		rec.Runs = deltafile.Joined(nil, ch.Runs)
		if ch.Encoding != wire.EncodingZstd {
			rec.Encoding, rec.Data = squeeze.Encode(ch.Data)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent[rec.Extent] = &differing{digest: ch.Digest, data: len(ch.Data), length: ch.Length}
	if zero {
		return nil
	}
	return c.w.Add(rec)
}

// errRestarted is for a host that was started anew while a delta was made: what was read
// before may be of another device.
var errRestarted = errors.New("was restarted while the delta was made: run the same command again")

// reopen opens the device again after a lost connection.
func (c *collecting) reopen(ctx context.Context) error {
	if c.source.usable() {
		return nil
	}
	c.source.release()
	again, err := openWithin(ctx, c.from, wire.ReadStop, c.around, false)
	if err != nil {
		return err
	}
	if restarted(c.source.s, again.s) {
		again.close()
		return refuse("%s %w", c.from.host, errRestarted)
	}
	if err := c.source.same(again, false); err != nil {
		again.close()
		return err
	}
	c.source = again
	return nil
}
