package delta

import (
	"context"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Change is an extent that has another digest than the one that was known. It is valid
// until the call that it is given to returns.
type Change struct {
	Extent   int64 // of the range
	Length   int   // bytes
	Digest   block.Digest
	Runs     []wire.Run // of data; all other blocks of the extent are zero
	Encoding wire.Encoding
	Encoded  []byte // bytes of Runs, as they came
	Data     []byte // the same, decoded
}

// collector is one running Collect.
type collector struct {
	link   Link
	r      block.Range
	window int64
	each   func(*Change) error

	digests   []block.Digest // of all extents: as known, then as collected
	state     []state        // of all extents
	announced int64          // extents whose digest was sent
	limit     int64          // extents whose digest may be sent
	oldest    int64          // first extent not settled
	floor     int64          // of the last Advance
	sum       wire.Summary

	patch     wire.Patch
	change    Change
	sums      []block.Digest // block digests of the extent that is patched
	fresh     []block.Digest // of runDigests
	unsqueeze compress.Decoder
}

// Collect is the receiver of a transfer that has only digests of what it held: known[i]
// is that of extent i of r, where nothing is known that of zeros. Each extent that differs
// comes whole, is verified, and goes to each, in any order and those of zeros included;
// then known has its digest. What Collect returns has the root of all digests, which is
// that of what the sender has read. So what has changed since the digests were made is
// read once and moved alone. It takes memory for a byte for each extent of r.
func Collect(ctx context.Context, link Link, r block.Range, window int64, known []block.Digest, each func(*Change) error) (*wire.Summary, error) {
	blocks := block.Count(block.ExtentSize, r.BlockSize)
	c := &collector{link: link, r: r, window: window, each: each, digests: known, state: make([]state, r.Extents()),
		limit: min(window, r.Extents()), sums: make([]block.Digest, blocks), fresh: make([]block.Digest, blocks)}
	defer c.unsqueeze.Release()
	if err := c.run(ctx); err != nil {
		return nil, ended(ctx, err)
	}
	return &c.sum, nil
}

func (c *collector) run(ctx context.Context) error {
	for {
		if err := c.announce(); err != nil {
			return err
		}
		f, err := c.link.Next(ctx, nil)
		if err != nil {
			return err
		}
		err = c.take(&f)
		f.Release()
		if err != nil || f.Type == wire.TypeFinish {
			return err
		}
	}
}

// announce sends all digests that may be sent.
func (c *collector) announce() error {
	for c.announced < c.limit {
		m := wire.Digests{First: c.announced}
		for m.Len() < wire.MaxBatch && c.announced < c.limit {
			m.Add(c.digests[c.announced])
			c.announced++
		}
		if err := c.link.Write(&m); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) take(f *wire.Frame) error {
	switch f.Type {
	case wire.TypeAdvance:
		var m wire.Advance
		if err := f.Decode(&m); err != nil {
			return err
		}
		return c.takeAdvance(&m)
	case wire.TypeWant:
		var m wire.Want
		if err := f.Decode(&m); err != nil {
			return err
		}
		return c.takeWant(m.Extent)
	case wire.TypePatch:
		if err := f.Decode(&c.patch); err != nil {
			return err
		}
		return c.takePatch()
	case wire.TypeFinish:
		var m wire.Finish
		if err := f.Decode(&m); err != nil {
			return err
		}
		return c.finish(m.Root)
	}
	return unexpected(f)
}

// takeAdvance settles the extents below the floor that were not spoken of.
func (c *collector) takeAdvance(m *wire.Advance) error {
	if m.Floor < c.floor || m.Floor > c.announced {
		return wire.Errorf(wire.CodeProtocol, "protocol error: extents below %d settled, digests sent are %d", m.Floor, c.announced)
	}
	for ; c.floor < m.Floor; c.floor++ {
		if c.state[c.floor] == stateScanned {
			_, n := c.r.Extent(c.floor)
			c.sum.Equal += int64(n)
			c.settle(c.floor)
		}
	}
	c.limit = max(c.limit, min(m.Limit, c.oldest+c.window, c.r.Extents()))
	return nil
}

func (c *collector) settle(i int64) {
	c.state[i] = stateSettled
	for c.oldest < int64(len(c.state)) && c.state[c.oldest] == stateSettled {
		c.oldest++
	}
}

// open tells whether extent i was announced and is not settled.
func (c *collector) open(i int64) bool { return i < c.announced && c.state[i] != stateSettled }

// takeWant answers with block digests that no block has but by accident: so all of the
// extent comes. One that has them is missing then, which the digest of the extent shows.
func (c *collector) takeWant(i int64) error {
	if !c.open(i) || c.state[i] != stateScanned {
		return wire.Errorf(wire.CodeProtocol, "protocol error: block digests of extent %d cannot be asked for now", i)
	}
	c.state[i] = stateWanted
	_, length := c.r.Extent(i)
	return c.link.Write(&wire.Blocks{Extent: i, Sums: make([]byte, block.Count(length, c.r.BlockSize)*block.ShortSize)})
}

// takePatch verifies a patch and hands it on. One that does not lead to the digest that
// it names is asked for again, once.
func (c *collector) takePatch() error {
	i := c.patch.Extent
	if !c.open(i) {
		return wire.Errorf(wire.CodeProtocol, "protocol error: patch of extent %d cannot come now", i)
	}
	right, err := c.verify()
	off, length := c.r.Extent(i)
	switch {
	case err != nil:
		return err
	case !right && c.state[i] == stateResent:
		return corrupted(off, int64(length), "data does not match its digest")
	case !right:
		c.state[i] = stateResent
		m := wire.Resend{}
		m.Extent = i
		return c.link.Write(&m)
	}
	if err := c.each(&c.change); err != nil {
		return err
	}
	c.digests[i] = c.patch.Digest
	c.sum.Data += int64(len(c.change.Data))
	c.sum.Zeroed += int64(length - len(c.change.Data))
	c.settle(i)
	if c.patch.Digest == block.ZeroExtent(length, c.r.BlockSize) {
		return nil // has no answer
	}
	m := wire.Applied{}
	m.Extent = i
	return c.link.Write(&m)
}

// verify makes the change of the patch, and tells whether it has the digest of it.
func (c *collector) verify() (bool, error) {
	p, ch := &c.patch, &c.change
	_, ch.Length = c.r.Extent(p.Extent)
	ch.Extent, ch.Digest, ch.Encoding, ch.Encoded, ch.Runs = p.Extent, p.Digest, p.Encoding, p.Data, ch.Runs[:0]
	for _, r := range p.Runs {
		if !r.Zero {
			ch.Runs = append(ch.Runs, r)
		}
	}
	d, data, err := decode(&c.unsqueeze, c.sums, c.fresh, p, ch.Length, c.r.BlockSize)
	ch.Data = data
	return err == nil && d == p.Digest, err
}

// decode gives the bytes that the runs of p have, and the digest of an extent that has
// them, and zeros elsewhere.
func decode(dec *compress.Decoder, sums, room []block.Digest, p *wire.Patch, length, blockSize int) (d block.Digest, data []byte, err error) {
	blocks, want := block.Count(length, blockSize), 0
	for _, r := range p.Runs {
		end := int(r.First) + int(r.Count)
		if end > blocks {
			return d, nil, wire.Errorf(wire.CodeProtocol, "protocol error: patch of extent %d goes past its end", p.Extent)
		}
		if !r.Zero {
			want += min(end*blockSize, length) - int(r.First)*blockSize
		}
	}
	if p.Encoding == wire.EncodingNone {
		return d, nil, wire.Errorf(wire.CodeProtocol, "protocol error: patch of extent %d has no data", p.Extent)
	}
	if data, err = dec.Decode(p.Encoding, p.Data, want); err == nil && len(data) != want {
		err = wire.Errorf(wire.CodeProtocol, "it has %d bytes, not %d", len(data), want)
	}
	if err != nil {
		return d, nil, wire.Errorf(wire.CodeProtocol, "protocol error: patch of extent %d: %v", p.Extent, err)
	}
	sums = block.ZeroDigests(sums, length, blockSize)
	runDigests(sums, room, p.Runs, data, blockSize)
	return block.ExtentDigest(sums), data, nil
}

// finish compares the root of what was collected with that of the sender.
func (c *collector) finish(theirs block.Digest) error {
	if c.oldest != c.r.Extents() {
		return wire.Errorf(wire.CodeProtocol, "protocol error: finished with %d of %d extents settled", c.oldest, c.r.Extents())
	}
	root := block.NewRootHash(c.r)
	for _, d := range c.digests {
		root.Add(d)
	}
	if c.sum.Root = root.Sum(); c.sum.Root != theirs {
		return corrupted(c.r.Offset, c.r.Length, "what was received is not what the sender read")
	}
	c.sum.Scanned = c.r.Length
	return c.link.Write(&wire.Finished{Root: c.sum.Root})
}
