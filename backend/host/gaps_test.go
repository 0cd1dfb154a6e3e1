package host

import (
	"slices"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Gaps are told as they come, and only those of what was asked for.
func TestJoin_Gaps(t *testing.T) {
	harness.Goroutines(t)
	for name, c := range map[string]struct {
		gap  wire.Gap
		told bool
	}{
		"first":    {wire.Gap{Offset: 0, Length: 512}, true},
		"last":     {wire.Gap{Offset: 8<<20 - 512, Length: 512}, true},
		"past it":  {wire.Gap{Offset: 8<<20 - 512, Length: 513}, false},
		"far away": {wire.Gap{Offset: 1 << 40, Length: 512}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var liar, victim witness
			src := played(t, liar.says(&wire.Gaps{List: []wire.Gap{c.gap}}, wire.Errorf(wire.CodeIO, "bad sector")))
			var told []wire.Gap
			src.OnGaps(func(gaps []wire.Gap) { told = append(told, gaps...) })
			err := quickJoin(t, src, played(t, victim.says()))
			switch {
			case c.told && (!slices.Equal(told, []wire.Gap{c.gap}) || !strings.Contains(err.Error(), "bad sector: the source cannot be read there")):
				t.Errorf("told %v, %v", told, err)
			case !c.told && (told != nil || !strings.Contains(err.Error(), "protocol error")):
				t.Errorf("told %v, %v", told, err)
			}
			if victim.saw(wire.TypeGaps) != c.told {
				t.Error("the receiver was told something else")
			}
		})
	}
}

// What a session is asked for once it is not asked for by the next one who has it.
func TestSession_Release_gaps(t *testing.T) {
	harness.Goroutines(t)
	f := newFakeHost(t, Config{})
	s, err := f.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.OnGaps(func([]wire.Gap) {})
	s.Release()
	if s.gaps != nil {
		t.Error("something is left")
	}
}
