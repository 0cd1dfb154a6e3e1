//go:build unix

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// peers are the tools that make a target equal, as far as they are on PATH.
var peers = []string{"blockdev", "rsync", "rsync-4k", "blocksync-fast", "blocksync-fast-16k", "bdsync", "bdsync-16k", "diskrsync", "rblocksync3"}

// copiers are the tools that make a target.
var copiers = []string{"blockdev", "blockdev-ssh", "rsync", "diskrsync", "cat"}

// rates are the shares of the blocks that are changed, in percent.
var rates = []float64{0, 0.1, 1, 10, 50, 100}

// distances are the round-trip times that the relay plays, without limiting the bandwidth.
var distances = []time.Duration{0, 10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond}

// ways are the directions: to the host and from it.
var ways = []struct {
	name string
	pull bool
}{{"push", false}, {"pull", true}}

// BenchmarkChanged is a further copy, after some of the blocks of the target have been changed, at random places.
func BenchmarkChanged(b *testing.B) {
	t := anyBed(b)
	for _, way := range ways {
		b.Run("way="+way.name, func(b *testing.B) {
			for _, rate := range rates {
				b.Run(fmt.Sprintf("rate=%v", rate), func(b *testing.B) {
					t.compare(b, way.pull, peers, scattered(rate))
				})
			}
		})
	}
}

// BenchmarkGathered is a further copy, after blocks that lie together have been changed.
func BenchmarkGathered(b *testing.B) {
	t := anyBed(b)
	b.Run("way=push/rate=1", func(b *testing.B) {
		t.compare(b, false, peers, changed(func(t *bed) { harness.Gather(t.b, t.dst, 0.01, 8) }))
	})
}

// BenchmarkFirst is a copy to an image that is not there yet.
func BenchmarkFirst(b *testing.B) {
	t := madeUp(b)
	for _, way := range ways {
		b.Run("way="+way.name, func(b *testing.B) { t.compare(b, way.pull, copiers, absent) })
	}
}

// BenchmarkFar is BenchmarkChanged with 1 % at each distance, without diskrsync, which sends three quarters of such an
// image and waits for an answer so often that 64 MiB take most of a minute at 100 ms, and without rblocksync3, which
// waits twice for each MiB in which something has changed.
func BenchmarkFar(b *testing.B) {
	t := anyBed(b)
	names := slices.DeleteFunc(slices.Clone(peers), func(name string) bool { return name == "diskrsync" || name == "rblocksync3" })
	for _, way := range ways {
		b.Run("way="+way.name, func(b *testing.B) { t.distant(b, way.pull, names, scattered(1)) })
	}
}

// BenchmarkFarFirst is BenchmarkFirst at each distance. One SSH channel carries 2 MiB in a round trip, which is what
// limits cat.
func BenchmarkFarFirst(b *testing.B) {
	t := madeUp(b)
	b.Run("way=push", func(b *testing.B) { t.distant(b, false, []string{"blockdev", "cat"}, absent) })
}

func (t *bed) distant(b *testing.B, pull bool, names []string, prepare func(t *bed)) {
	t.relayed = true
	for _, rtt := range distances {
		b.Run(fmt.Sprintf("rtt=%d", rtt.Milliseconds()), func(b *testing.B) {
			t.relay.Delay(rtt)
			t.compare(b, pull, names, prepare)
		})
	}
	t.relay.Delay(0)
}

// scattered prepares a target in which that share of the blocks, in percent, differs from the source.
func scattered(rate float64) func(t *bed) {
	return changed(func(t *bed) { harness.Scatter(t.b, t.dst, rate/100, 7) })
}

// changed prepares a target that equals the source but for what change does.
func changed(change func(t *bed)) func(t *bed) {
	return func(t *bed) {
		t.copyImage()
		change(t)
		if t.given { // nothing is cached
			harness.Settle(t.b, t.src)
			harness.Settle(t.b, t.dst)
		}
	}
}

func absent(t *bed) { os.Remove(t.dst) }

// copyImage makes the target equal to the source. A given one is so after each run.
func (t *bed) copyImage() {
	if t.given {
		if *t.unequal {
			t.makeEqual()
		}
		return
	}
	if out, err := exec.Command("cp", "--sparse=never", t.src, t.dst).CombinedOutput(); err != nil {
		t.b.Fatalf("cp: %v: %s", err, out)
	}
}
