//go:build unix

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// sparse gives a bed whose source has data bytes at its beginning and ends, after a hole, at size.
func sparse(b *testing.B, data, size int64) *bed {
	t := madeUp(b)
	os.Remove(t.src)
	if data > 0 {
		harness.Image{Size: data, Seed: 2}.Write(b, t.src)
	} else if err := os.WriteFile(t.src, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	if err := os.Truncate(t.src, size); err != nil {
		b.Fatal(err)
	}
	t.size = data
	return t
}

// BenchmarkFarEmpty is the second copy of a terabyte that is one hole, at each distance.
func BenchmarkFarEmpty(b *testing.B) {
	for _, rtt := range distances {
		b.Run(fmt.Sprintf("rtt=%d", rtt.Milliseconds()), func(b *testing.B) {
			t := sparse(b, 0, 1<<40)
			t.relayed = true
			t.relay.Delay(rtt)
			t.once(t.tools(false)["blockdev"])
			for b.Loop() {
				t.once(t.tools(false)["blockdev"])
			}
		})
	}
}

// BenchmarkSparse is the second copy of images that are all the same to someone who does not read holes.
func BenchmarkSparse(b *testing.B) {
	const data = 256 << 20
	for _, image := range []struct {
		name       string
		data, size int64
	}{{"dense-256M", data, data}, {"64G-with-256M", data, 64 << 30}, {"1T-empty", 0, 1 << 40}} {
		b.Run(image.name, func(b *testing.B) {
			for _, way := range []struct {
				name string
				cmd  func(t *bed) *exec.Cmd
			}{
				{"push", func(t *bed) *exec.Cmd { return t.tools(false)["blockdev"]() }},
				{"pull", func(t *bed) *exec.Cmd { return t.tools(true)["blockdev"]() }},
				{"push-local", func(t *bed) *exec.Cmd {
					return t.client.Command(t.b.Context(), "copyto", "--ignore-times", t.src, t.remote(t.dst))
				}},
			} {
				b.Run(way.name, func(b *testing.B) {
					t := sparse(b, image.data, image.size)
					command := func() *exec.Cmd { return way.cmd(t) }
					os.Remove(t.dst)
					t.once(command)
					for b.Loop() {
						t.once(command)
					}
					if n := harness.Allocated(b, filepath.Clean(t.dst)); n > image.data+1<<20 {
						b.Errorf("the target occupies %d bytes", n)
					}
				})
			}
		})
	}
}
