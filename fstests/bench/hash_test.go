//go:build unix

package bench

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"testing"
)

// BenchmarkHash sums up the image on its host, which should take no longer than one stream of SHA-256 does: that of
// a processor which has the data in memory, and that of the sha256sum program.
func BenchmarkHash(b *testing.B) {
	t := madeUp(b)
	programs := map[string]*exec.Cmd{
		"blockdev":  t.client.Command(b.Context(), "hashsum", "sha256", t.remote(t.src)),
		"sha256sum": exec.Command("sha256sum", t.src),
	}
	for name, cmd := range programs {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(t.size)
			for range b.N {
				again := exec.Command(cmd.Path, cmd.Args[1:]...)
				again.Env = cmd.Env
				if out, err := again.CombinedOutput(); err != nil {
					b.Fatalf("%v: %v\n%s", cmd.Args, err, out)
				}
			}
		})
	}
	b.Run("stream", func(b *testing.B) {
		data, err := os.ReadFile(t.src)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(t.size)
		for b.Loop() {
			sha256.Sum256(data)
		}
	})
}
