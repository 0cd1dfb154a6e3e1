package blockdev

import (
	"context"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/rclone/rclone/fs"
	"golang.org/x/sync/errgroup"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Difference is what a copy from Source to Target would do. All sizes are bytes.
type Difference struct {
	Source        string        `json:"source"`
	Target        string        `json:"target"`
	SourceSize    int64         `json:"sourceSize"`
	TargetSize    int64         `json:"targetSize"`
	BlockSize     int           `json:"blockSize"`
	Scanned       int64         `json:"scanned"`       // compared
	Equal         int64         `json:"equal"`         // would be left alone
	Changed       int64         `json:"changed"`       // would be moved and written
	Zeroed        int64         `json:"zeroed"`        // would be made zero
	ChangedBlocks int64         `json:"changedBlocks"` //
	ZeroedBlocks  int64         `json:"zeroedBlocks"`  //
	Wire          int64         `json:"wire"`          // crossed the network for the comparison
	Took          time.Duration `json:"took"`          // nanoseconds

	// Empty is what of Equal is zero on both ends; known where Plan.Mark is told.
	Empty int64 `json:"-"`

	// Ranges are where the two differ, in units of RangeUnit bytes, when it was asked
	// for.
	Ranges    []Range `json:"ranges,omitzero"`
	RangeUnit int64   `json:"rangeUnit,omitzero"`
	// Unreadable are places of the source that could not be read, as far as the option
	// read_errors lets the comparison go on.
	Unreadable Unreadable `json:"unreadable,omitzero"`

	// InUse says why a copy would be refused now, as far as the host tells.
	InUse []string `json:"inUse,omitempty"`
}

// String names p for people.
func (p place) String() string { return p.host.String() + ":" + p.path }

// below finds what name leads to below f.
func (f *Fs) below(name string) (place, error) {
	at, err := f.place(name)
	if err == nil && (at.host == nil || at.path == "/") {
		err = refuse("%q names no device or image: write blockdev:host/dev sda, or blockdev:host dev/sda", name)
	}
	return at, err
}

// anywhere finds what a whole remote leads to: of this backend, or a local path.
func anywhere(ctx context.Context, remote string) (place, error) {
	info, name, full, m, err := fs.ConfigFs(remote)
	if err != nil {
		return place{}, err
	}
	switch info.Name {
	case "local":
		abs, err := filepath.Abs(filepath.FromSlash(full))
		return place{host.Get(host.Config{Host: host.Localhost}), filepath.ToSlash(abs)}, err
	case Name:
	default:
		return place{}, refuse("%s: is on a remote of type %s: name a device or image as blockdev:host/path or by a local path", remote, info.Name)
	}
	dir, leaf := path.Split(strings.TrimRight(full, "/"))
	f, err := NewFs(ctx, name, dir+"/", m) // with a slash nobody is asked what it is
	if err != nil {
		return place{}, err
	}
	return f.(*Fs).below(leaf)
}

// pair is two objects that are open for reading.
type pair struct {
	from, to place
	src, dst *lease
}

// openPair opens two objects, which must be different ones. how is for places where
// the source cannot be read.
func openPair(ctx context.Context, from, to place, how wire.ReadErrors) (*pair, error) {
	src, err := openWithin(ctx, from, how, nil, false)
	if err != nil {
		return nil, explain(err)
	}
	dst, err := openSource(ctx, to)
	if err != nil {
		src.close()
		return nil, explain(err)
	}
	p := &pair{from, to, src, dst}
	if id := identity(src.s, src.opened.Entry); id != "" && id == identity(dst.s, dst.opened.Entry) {
		p.close()
		return nil, refuse("%s is the same %s as %s", to, kindName(dst.opened.Entry), from)
	}
	return p, nil
}

// again opens the pair once more, for another stream.
func (p *pair) again(ctx context.Context) (*pair, error) {
	src, err := p.src.again(ctx)
	if err != nil {
		return nil, err
	}
	dst, err := p.dst.again(ctx)
	if err != nil {
		src.close()
		return nil, err
	}
	return &pair{p.from, p.to, src, dst}, nil
}

// close gives both sessions back, and returns the bytes that crossed the network.
func (p *pair) close() int64 { return p.src.close() + p.dst.close() }

// common is the number of bytes that a copy would compare, or its refusal of the
// sizes.
func (p *pair) common(ctx context.Context) (int64, error) {
	n, have := p.src.opened.Size, p.dst.opened.Size
	switch {
	case n == have:
	case fs.GetConfig(ctx).IgnoreSize:
		n = min(n, have)
	case p.dst.opened.Entry.Kind == wire.KindBlock:
		return 0, refuse("%s has %d bytes and the source %s %d: a device must be as large as its source, or use --ignore-size for the part common to both",
			p.to, have, p.from, n)
	}
	return n, nil
}

// compare finds out what a copy from the source to the target would do, without
// writing anything. streams is how many stripes are worked on at once. begin is
// called with what is known before, nil for nobody.
func compare(ctx context.Context, from, to place, streams int, how ReadErrors, begin func(*Difference)) (*Difference, error) {
	plan, report := planOf(ctx), &report{start: time.Now()}
	p, err := openPair(ctx, from, to, wire.ReadErrors(how))
	if err != nil {
		return nil, err
	}
	d := &Difference{Source: from.String(), Target: to.String(), BlockSize: plan.blockSize(),
		SourceSize: p.src.opened.Size, TargetSize: p.dst.opened.Size}
	if d.Scanned, err = p.common(ctx); err == nil {
		if p.src.opened.Entry.Rotational || p.dst.opened.Entry.Rotational {
			streams = 1
		}
		if begin != nil {
			begin(d)
		}
		plan.Meter.begin(report)
		err = p.stripes(ctx, d.Scanned, streams, report)
	}
	p.close()
	if err != nil {
		return nil, explain(err)
	}
	got := report.outcome()
	d.Equal, d.Changed, d.Zeroed, d.Empty, d.Wire, d.Took = got.Equal, got.Changed, got.Zeroed, got.Empty, got.Wire, got.Took
	d.ChangedBlocks, d.ZeroedBlocks = blocks(got.Changed, d.BlockSize), blocks(got.Zeroed, d.BlockSize)
	d.Unreadable = got.Unreadable
	if err := got.Unreadable.conclude(ctx, nil, how); err != nil {
		fs.CountError(ctx, err) // the command fails, after it has told the rest
	}
	found, err := describe(ctx, to, false)
	if err != nil {
		return nil, explain(err)
	}
	if d.InUse, _ = values(found)["in-use"].([]string); len(d.InUse) > 0 {
		fs.Logf(nil, "%s: a copy would be refused now: %s", to, strings.Join(d.InUse, "; "))
	}
	return d, nil
}

// blocks is how many blocks of size bytes n bytes are, of which the last may be
// short.
func blocks(n int64, size int) int64 { return (n + int64(size) - 1) / int64(size) }

// stripes compares the first n bytes of the pair.
func (p *pair) stripes(ctx context.Context, n int64, streams int, report *report) error {
	plan := planOf(ctx)
	stripes := block.Stripes(n, plan.blockSize())
	todo := make(chan block.Range, len(stripes))
	for _, r := range stripes {
		todo <- r
	}
	close(todo)
	streams = min(streams, len(stripes))
	var shares sharing
	shares.begin(streams)
	work := func(ctx context.Context, p *pair) error {
		defer report.join(p.src, p.dst)()
		p.src.s.Watch(plan.Meter.moved)
		p.src.s.Trace(plan.Mark)
		for r := range todo {
			p.src.salvage(&report.gaps)
			shares.tell(p.src, p.dst)
			res, err := host.Compare(ctx, p.src.s, p.dst.s, r, plan.Meter.settle(func(int64) {}))
			if err != nil {
				return err
			}
			fs.Debugf(nil, "compared %v of %v at %v", fs.SizeSuffix(r.Length), p.from, fs.SizeSuffix(r.Offset))
			report.add(res)
		}
		return nil
	}
	lead := func(ctx context.Context) error { return work(ctx, p) }
	return shares.run(ctx, nil, streams, lead, func(ctx context.Context) (func() error, error) {
		more, err := p.again(ctx)
		return func() error {
			defer more.close()
			return work(ctx, more)
		}, err
	})
}

// root is the root of the first n bytes of what is open.
func (l *lease) root(ctx context.Context, n int64) (string, error) {
	r := block.Range{Length: n, BlockSize: block.DefaultSize}
	digest, err := l.s.Root(ctx, r, func(done int64) {
		fs.Debugf(nil, "read %v of %v of %s:%s", fs.SizeSuffix(done), fs.SizeSuffix(n), l.s.Host(), l.opened.Path)
	})
	return hexDigest(digest), err
}

// roots are the roots of the first n bytes of both, read at the same time.
func (p *pair) roots(ctx context.Context, n int64) (src, dst string, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { src, err = p.src.root(ctx, n); return err })
	g.Go(func() (err error) { dst, err = p.dst.root(ctx, n); return err })
	return src, dst, g.Wait()
}
