package blockdev

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// Where the way to either end is long, several stripes are begun and ended as one, unless each is to be trusted later.
func TestTogether(t *testing.T) {
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
	relay.Delay(2 * farAway)
	far := opened(away)
	if trip := far.s.RoundTrip(); trip < 2*farAway || trip > time.Minute {
		t.Errorf("a round trip of %v takes %v", 2*farAway, trip)
	}
	for name, c := range map[string]struct {
		source, target *lease
		how            Resuming
		stripes        int64
		streams, want  int
	}{
		"near":           {local, near, 0, 40, 4, 1},
		"far target":     {local, far, 0, 40, 4, mostFar},
		"far source":     {far, local, 0, 40, 4, mostFar},
		"few":            {local, far, 0, 8, 4, 2},
		"fewer":          {local, far, 0, 3, 4, 1},
		"to be trusted":  {local, far, resumeTrust, 40, 4, 1},
		"without resume": {local, far, resumeOff, 40, 4, mostFar},
	} {
		away.fs.opt.Resume = c.how
		x := &copying{source: c.source, t: &target{o: away, lead: c.target}, parts: newParts(block.Stripes(c.stripes*block.StripeSize, block.DefaultSize))}
		if got := x.together(c.streams); got != c.want {
			t.Errorf("%s: %d stripes are one, want %d", name, got, c.want)
		}
	}
}
