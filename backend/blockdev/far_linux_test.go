package blockdev

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// Where the way to either end is long, several stripes are begun and ended as one, unless each is to be trusted later.
func TestShare(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "img"), make([]byte, block.ExtentSize))
	f, relay := overSSH(t, dir)
	away, here := find(t, f, "img").(*Object), find(t, newFs(t, "blockdev:localhost"+dir), "img").(*Object)
	opened := func(o *Object) *lease {
		t.Helper()
		at, err := o.fs.place(o.remote)
		if err != nil {
			t.Fatal(err)
		}
		l, err := openSource(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.close() })
		return l
	}
	local, near := opened(here), opened(away)
	for i := 0; near.s.Fastest() >= farAway && i < 100; i++ { // as on a busy machine
		if _, err := near.s.Stat(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
	relay.Delay(2 * farAway)
	far := opened(away)
	if took := far.s.Fastest(); took < 2*farAway || took > time.Minute {
		t.Errorf("the fastest request took %v where a round trip takes %v", took, 2*farAway)
	}
	for name, c := range map[string]struct {
		source, target *lease
		how            Resuming
		broken         bool
		streams        int
		stripes        int64
		want           []int // by all streams, one behind the other
	}{
		"near":           {local, near, 0, false, 4, 5, []int{1, 1, 1, 1, 1}},
		"far target":     {local, far, 0, false, 4, 20, []int{4, 4, 4, 4, 1, 1, 1, 1}},
		"far source":     {far, local, 0, false, 4, 18, []int{4, 4, 4, 4, 1, 1}},
		"more":           {local, far, 0, false, 4, 40, []int{4, 4, 4, 4, 4, 4, 4, 3, 2, 1, 1, 1, 1, 1, 1, 1}},
		"few":            {local, far, 0, false, 4, 10, []int{2, 2, 2, 2, 1, 1}},
		"fewer":          {local, far, 0, false, 4, 3, []int{1, 1, 1}},
		"to be trusted":  {local, far, resumeTrust, false, 4, 8, []int{1, 1, 1, 1, 1, 1, 1, 1}},
		"without resume": {local, far, resumeOff, false, 4, 8, []int{2, 2, 2, 2}},
		"one stream":     {local, far, 0, false, 1, 4, []int{1, 1, 1, 1}},
		"broken":         {local, far, 0, true, 4, 8, []int{1, 1, 1, 1, 1, 1, 1, 1}},
	} {
		away.fs.opt.Resume = c.how
		x := &copying{source: c.source, t: &target{o: away, lead: c.target}, report: new(report),
			parts: newParts(block.Stripes(c.stripes*block.StripeSize, block.DefaultSize))}
		if c.broken {
			_ = x.reopen(t.Context()) // that source and target are one is of no interest here
		}
		x.divide(c.streams)
		var got []int
		for first := x.share(); x.parts.left() > 0; {
			n := x.share()
			if len(got) < c.streams { // each stream has its first one
				n = first
			}
			p, _ := x.parts.next(n)
			got = append(got, int(p.Length/block.StripeSize))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: ranges of %v stripes, want %v", name, got, c.want)
		}
	}
}

// Over a long way the first stripe is not done as long as the second one, which is much longer, is not.
func TestFar(t *testing.T) {
	x := toTrust(t, imageTarget(t))
	x.f.opt.Streams, x.f.opt.Resume = 2, 0
	img, err := os.OpenFile(x.source, os.O_WRONLY, 0)
	if err == nil {
		_, err = img.WriteAt(edges.Contents()[1].Make(96<<20, 7), block.StripeSize+64<<20)
		err = errors.Join(err, img.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	x.relay.Delay(2 * farAway)
	x.relay.CutAfter(5 * trustData)
	if err := x.copy(t.Context()); err == nil {
		t.Fatal("was not cut")
	}
	if _, page := noted(t, x.f); page.Done[0] != 0 || page.Done[1] != 0 {
		t.Errorf("%+v", page)
	}
	x.relay.Reset()
	x.relay.Delay(0)
	x.free()
	x.again()
}
