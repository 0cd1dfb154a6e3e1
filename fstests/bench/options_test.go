//go:build linux

package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// optionsSize is that of the images in bytes, unless another one is asked for.
const optionsSize = 256 << 20

// onXFS gives a bed whose target, logs and clones lie on one XFS, in memory. The source is random data, and so is the
// target, of another seed: all of it changes, which is the worst case.
func onXFS(b *testing.B) (t *bed, kept string) {
	require.Need(b, require.Root, require.Loop, require.Mount)
	t = newBed(b)
	t.src, t.size = filepath.Join(t.dir, "src.img"), optionsSize
	if os.Getenv("BLOCKDEV_BENCH_SIZE") != "" {
		var err error
		if t.size, err = imageSize(); err != nil {
			b.Fatal(err)
		}
	}
	harness.Image{Size: t.size, Seed: 1}.Write(b, t.src)
	harness.Image{Size: t.size, Seed: 2}.Write(b, filepath.Join(t.dir, "old.img"))
	backing := filepath.Join(t.dir, "xfs")
	if err := os.WriteFile(backing, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	if err := os.Truncate(backing, 4*t.size+1<<30); err != nil {
		b.Fatal(err)
	}
	dev, point := harness.LoopOn(b, backing).Path, filepath.Join(t.dir, "on")
	run(b, "mkfs.xfs", "-q", "-f", dev)
	run(b, "mkdir", point)
	run(b, "mount", dev, point)
	b.Cleanup(func() { run(b, "umount", point) })
	t.dst, kept = filepath.Join(point, "dst.img"), filepath.Join(point, "kept")
	run(b, "mkdir", "-m", "700", kept)
	return t, kept
}

func run(b *testing.B, name string, args ...string) {
	b.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		b.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// BenchmarkOptions is a copy in which everything changes, with each option for proof and undo. "spaceMB" is what the file
// system of the target has less than before.
func BenchmarkOptions(b *testing.B) {
	for _, c := range []struct {
		name    string
		options func(kept string) []string
	}{
		{"none", func(string) []string { return nil }},
		{"verify", func(string) []string { return []string{"--blockdev-verify=true"} }},
		{"verify-full", func(string) []string { return []string{"--blockdev-verify=full"} }},
		{"undo", func(kept string) []string { return []string{"--blockdev-undo=" + kept} }},
		{"atomic", func(kept string) []string {
			return []string{"--blockdev-apply=atomic", "--blockdev-spool-dir=" + kept}
		}},
		{"reflink", func(string) []string { return []string{"--blockdev-apply=reflink"} }},
		{"receipt", func(kept string) []string { return []string{"--blockdev-receipt=" + kept} }},
	} {
		b.Run(c.name, func(b *testing.B) {
			t, kept := onXFS(b)
			most := int64(0) // used at the end, or by a spool just before
			before := int64(0)
			args := append([]string{"copyto", "--ignore-times"}, c.options(kept)...)
			args = append(args, "blockdev:localhost"+t.src)
			command := func() *exec.Cmd { return t.client.Command(b.Context(), append(args, t.remote(t.dst))...) }
			t.measureCommand(c.name, command, func() {
				if before > 0 {
					most = max(most, used(b, kept)-before)
				}
				run(b, "sh", "-c", "rm -f "+kept+"/*; cat "+filepath.Join(t.dir, "old.img")+" >"+t.dst+"; sync -f "+t.dst)
				before = used(b, kept)
			})
			most = max(most, used(b, kept)-before)
			b.ReportMetric(float64(most)/1e6, "spaceMB")
		})
	}
}

// used is the space that is taken of a file system, in bytes.
func used(b *testing.B, path string) int64 {
	b.Helper()
	var st unix.Statfs_t
	run(b, "sync", "-f", path)
	if err := unix.Statfs(path, &st); err != nil {
		b.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// BenchmarkDelta is the writing of a full delta and of one of 1 % of the blocks, scattered or in runs of 4 MiB, and
// the application of both. "deltaMB" is the size of the file, and the receipts take part.
func BenchmarkDelta(b *testing.B) {
	for _, c := range []struct {
		name   string
		change func(b *testing.B, path string)
	}{
		{"full", nil},
		{"scattered", func(b *testing.B, path string) { harness.Scatter(b, path, 0.01, 7) }},
		{"gathered", func(b *testing.B, path string) { harness.Gather(b, path, 0.01, 8) }},
	} {
		b.Run(c.name, func(b *testing.B) { delta(b, c.change, false) })
	}
	b.Run("apply", func(b *testing.B) {
		delta(b, func(b *testing.B, path string) { harness.Scatter(b, path, 0.01, 7) }, true)
	})
}

// delta measures the writing of one delta, or the application of it and the full one to an empty image.
func delta(b *testing.B, change func(b *testing.B, path string), apply bool) {
	t, kept := onXFS(b)
	if err := os.Rename(filepath.Join(t.dir, "old.img"), t.src); err != nil {
		b.Fatal(err)
	}
	last := filepath.Join(kept, "1.delta")
	write := func(since, to string) *exec.Cmd {
		dir, name := filepath.Split(t.src)
		return t.client.Command(b.Context(), "backend", "delta", "-o", "since="+since, t.remote(dir), name, to)
	}
	first := filepath.Join(kept, "0.delta")
	measured := func() *exec.Cmd { return write(first, last) }
	if change == nil {
		measured = func() *exec.Cmd { return write("none", last) }
	} else {
		t.once(func() *exec.Cmd { return write("none", first) })
		change(b, t.src)
	}
	remove := func() { _ = os.Remove(last) }
	if apply {
		t.once(measured)
		measured = func() *exec.Cmd {
			dir, name := filepath.Split(t.dst)
			return t.client.Command(b.Context(), "backend", "apply", t.remote(dir), name, kept)
		}
		remove = func() { _ = os.Remove(t.dst) }
	} else {
		t.dst = t.src // there is no target to be compared
	}
	t.measureCommand("delta", measured, remove)
	fi, err := os.Stat(last)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(fi.Size())/1e6, "deltaMB")
}
