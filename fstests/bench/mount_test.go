//go:build linux

package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// mounts are the flags that BenchmarkMount compares.
var mounts = []struct {
	name  string
	flags []string
}{
	{"default", nil},
	{"streams-4", []string{"--vfs-read-chunk-streams", "4", "--vfs-read-chunk-size", "16M"}},
	{"buffer-0", []string{"--buffer-size", "0"}},
	{"cache-full", []string{"--vfs-cache-mode", "full"}},
}

// BenchmarkMount copies an image out of a new mount with dd. The metric "%copyto" compares the speed with that of a
// copyto of the same image to the same place just before, which has to log in as well.
func BenchmarkMount(b *testing.B) {
	for _, mount := range mounts {
		b.Run(mount.name, func(b *testing.B) {
			require.Need(b, require.Fuse)
			t := madeUp(b)
			copyto := func() *exec.Cmd { return t.client.Command(b.Context(), "copyto", t.remote(t.src), t.dst) }
			t.once(copyto) // puts the helper in place, fills caches
			var direct, mounted time.Duration
			b.SetBytes(t.size)
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				os.Remove(t.dst)
				direct += timed(func() { t.once(copyto) })
				os.Remove(t.dst)
				file, unmount := t.mount(mount.flags)
				b.StartTimer()
				mounted += timed(func() { t.once(func() *exec.Cmd { return exec.Command("dd", "if="+file, "of="+t.dst, "bs=1M") }) })
				b.StopTimer()
				harness.Same(b, t.src, t.dst)
				unmount()
			}
			b.ReportMetric(100*direct.Seconds()/mounted.Seconds(), "%copyto")
			b.ReportMetric(float64(t.size)*float64(b.N)/direct.Seconds()/1e6, "copytoMB/s")
		})
	}
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// mount mounts the folder of the source in a new place, without what an earlier mount has cached.
func (t *bed) mount(flags []string) (source string, unmount func()) {
	dir := t.b.TempDir()
	args := append([]string{"mount", "--read-only", "--daemon", "--cache-dir", filepath.Join(t.dir, "cache")}, flags...)
	if r := t.client.Run(t.b, append(args, t.remote(filepath.Dir(t.src)), dir)...); r.Code != 0 {
		t.b.Fatal(r.Stderr)
	}
	done := false
	unmount = func() {
		if done {
			return
		}
		done = true
		if out, err := exec.Command("fusermount3", "-u", "-z", dir).CombinedOutput(); err != nil {
			t.b.Errorf("%v: %s", err, out)
		}
		os.RemoveAll(filepath.Join(t.dir, "cache"))
	}
	t.b.Cleanup(unmount) // when something fails before
	return filepath.Join(dir, filepath.Base(t.src)), unmount
}
