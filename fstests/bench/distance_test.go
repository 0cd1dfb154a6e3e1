//go:build unix

package bench

import (
	"os"
	"testing"
	"time"
)

// distances are the round-trip times that the relay plays, without limiting the bandwidth.
var distances = []time.Duration{0, 50 * time.Millisecond, 100 * time.Millisecond}

// far runs one scenario with each tool at each distance.
func far(b *testing.B, pull bool, names []string, prepare func(t *bed)) {
	for _, rtt := range distances {
		b.Run(rtt.String(), func(b *testing.B) {
			for _, name := range names {
				b.Run(name, func(b *testing.B) {
					t := newBed(b)
					t.relay.Delay(rtt)
					t.measure(t.tools(pull)[name], func() { prepare(t) })
				})
			}
		})
	}
}

func BenchmarkFarScatteredPush(b *testing.B) {
	far(b, false, []string{"blockdev"}, func(t *bed) { t.copyImage(); t.scatter() })
}

func BenchmarkFarScatteredPull(b *testing.B) {
	far(b, true, []string{"blockdev"}, func(t *bed) { t.copyImage(); t.scatter() })
}

// One SSH channel carries 2 MiB in a round trip, which is what limits cat.
func BenchmarkFarFirstPush(b *testing.B) {
	far(b, false, []string{"blockdev", "cat"}, func(t *bed) { os.Remove(t.dst) })
}
