package blockdev

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func (f *Fs) info(ctx context.Context, arg []string, _ map[string]string) (any, error) {
	at, err := f.below(arg[0])
	if err != nil {
		return nil, err
	}
	found, err := describe(ctx, at, true)
	if err != nil {
		return nil, explain(err)
	}
	out := values(found)
	out["host"], out["name"] = at.host.String(), arg[0]
	if steps := f.opt.steps(at.path); len(steps) > 0 {
		out["around"] = steps
	}
	known, err := loadPin(at)
	switch {
	case err != nil:
		fs.Logf(f, "%v", err) // of the device all is known
	case known != nil:
		out["pinned"] = known.IDs
	}
	return out, nil
}

func (f *Fs) diff(ctx context.Context, arg []string, opt map[string]string) (any, error) {
	want, err := diffOptions(opt)
	if err != nil {
		return nil, err
	}
	from, to, err := f.two(ctx, arg)
	if err != nil {
		want.discard()
		return nil, err
	}
	return want.compare(ctx, from, to, f.opt.Streams, f.opt.ReadErrors)
}

// two finds the two objects that diff and verify take.
func (f *Fs) two(ctx context.Context, arg []string) (a, b place, err error) {
	if a, err = f.below(arg[0]); err == nil {
		b, err = anywhere(ctx, arg[1])
	}
	return a, b, err
}

// rootResult is what the command root prints.
type rootResult struct {
	Root      string `json:"root"`      // hex
	Size      int64  `json:"size"`      // bytes
	BlockSize int    `json:"blockSize"` // bytes
}

// verify has an error of no class for what differs, so that rclone ends with 1, as
// check does, and not as for a refusal.
func (f *Fs) verify(ctx context.Context, arg []string, opt map[string]string) (any, error) {
	if file, ok := opt["receipt"]; ok {
		return f.verifyReceipt(ctx, arg[0], file)
	}
	a, b, err := f.two(ctx, arg)
	if err != nil {
		return nil, err
	}
	same, err := verify(ctx, a, b)
	if err != nil {
		return nil, err
	}
	return struct {
		Equal bool `json:"equal"`
		rootResult
	}{true, same}, nil
}

// verify reads both, and returns the root that they have in common.
func verify(ctx context.Context, a, b place) (same rootResult, err error) {
	p, err := openPair(ctx, a, b, wire.ReadStop)
	if err != nil {
		return same, err
	}
	defer p.close()
	n, other := p.src.opened.Size, p.dst.opened.Size
	if n != other && !fs.GetConfig(ctx).IgnoreSize {
		return same, fmt.Errorf("%s and %s differ: they have %d and %d bytes", a, b, n, other)
	}
	n = min(n, other)
	first, second, err := p.roots(ctx, n)
	switch {
	case err != nil:
		return same, explain(err)
	case first != second:
		return same, fmt.Errorf("%s and %s differ: their roots are %s and %s", a, b, first, second)
	}
	return rootResult{first, n, block.DefaultSize}, nil
}

func (f *Fs) rootOf(ctx context.Context, arg []string, _ map[string]string) (any, error) {
	at, err := f.below(arg[0])
	if err != nil {
		return nil, err
	}
	l, err := openSource(ctx, at)
	if err != nil {
		return nil, explain(err)
	}
	defer l.close()
	root, err := l.root(ctx, l.opened.Size)
	if err != nil {
		return nil, explain(err)
	}
	return rootResult{root, l.opened.Size, block.DefaultSize}, nil
}

// host is the host that f is on.
func (f *Fs) host() (*host.Host, error) {
	at, err := f.place("")
	if err == nil && at.host == nil {
		err = errNoHost
	}
	return at.host, err
}

func (f *Fs) deploy(ctx context.Context, _ []string, _ map[string]string) (any, error) {
	h, err := f.host()
	if err != nil || operations.SkipDestructive(ctx, h, "deploy the helper") {
		return nil, err
	}
	placed, err := h.Deploy(ctx)
	if err != nil {
		return nil, explain(err)
	}
	return struct {
		Host     string `json:"host"`
		Path     string `json:"path"`
		Platform string `json:"platform"`
		SHA256   string `json:"sha256"`
		Stored   bool   `json:"stored"` // it was not there before
	}{h.String(), placed.Path, placed.Platform, placed.SHA256, placed.Stored}, nil
}

func (f *Fs) undeploy(ctx context.Context, _ []string, _ map[string]string) (any, error) {
	h, err := f.host()
	if err != nil || operations.SkipDestructive(ctx, h, "remove the helpers") {
		return nil, err
	}
	removed, err := h.Undeploy(ctx)
	if err != nil {
		return nil, explain(err)
	}
	return struct {
		Host    string   `json:"host"`
		Removed []string `json:"removed"` // paths
	}{h.String(), append([]string{}, removed...)}, nil
}

// pong is what the command ping prints. Times are in milliseconds.
type pong struct {
	Host       string  `json:"host"`
	Helper     string  `json:"helper"` // its release
	Protocol   int     `json:"protocol"`
	Platform   string  `json:"platform"`
	Connect    float64 `json:"connectMs"`      // until the helper answered
	RoundTrip  float64 `json:"roundTripMs"`    // the quickest
	Average    float64 `json:"roundTripAvgMs"` //
	Bytes      int64   `json:"bytes"`          // fetched
	Throughput int64   `json:"throughput"`     // bytes per second
}

func (f *Fs) ping(ctx context.Context, _ []string, opt map[string]string) (any, error) {
	h, err := f.host()
	if err != nil {
		return nil, err
	}
	size, count := fs.SizeSuffix(16<<20), 10
	if v, ok := opt["size"]; ok {
		if err := size.Set(v); err != nil || size < 0 {
			return nil, fmt.Errorf("option size: %q is no number of bytes, as in 64Mi", v)
		}
	}
	if v, ok := opt["count"]; ok {
		if count, err = strconv.Atoi(v); err != nil || count < 1 || count > 1000 {
			return nil, fmt.Errorf("option count: %q is no number from 1 to 1000", v)
		}
	}
	start := time.Now()
	s, err := h.Session(ctx)
	if err != nil {
		return nil, explain(err)
	}
	defer s.Release()
	p := &pong{Host: h.String(), Helper: s.Hello.Build, Protocol: int(s.Hello.Version), Platform: s.Hello.OS + "/" + s.Hello.Arch,
		Connect: ms(time.Since(start)), Bytes: int64(size)}
	return p, classify(p.measure(ctx, s, count))
}

// measure fills in what the pings show.
func (p *pong) measure(ctx context.Context, s *host.Session, count int) error {
	var total, best time.Duration
	for i := range count {
		took, err := s.Ping(ctx, 0)
		if err != nil {
			return err
		}
		total += took
		if i == 0 || took < best {
			best = took
		}
	}
	p.RoundTrip, p.Average = ms(best), ms(total/time.Duration(count))
	if p.Bytes == 0 {
		return nil
	}
	took, err := s.Ping(ctx, p.Bytes)
	p.Throughput = int64(float64(p.Bytes) / took.Seconds())
	return err
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// explain is classify for what a command could not find.
func explain(err error) error {
	if errors.Is(err, wire.CodeNotFound) {
		return fmt.Errorf("%w: %w", fs.ErrorObjectNotFound, err)
	}
	return classify(err)
}
