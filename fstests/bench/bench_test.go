//go:build unix

// Package bench compares whole commands: rclone-blockdev, and the tools people
// use today, over a private sshd on the loopback interface, both ends on one
// machine, files in memory. Nothing runs without -bench:
//
//	go test -run '^$' -bench . -benchtime 3x -timeout 1h ./fstests/bench
//
// The figures of one run are to be compared with each other, never with those of
// another machine. BLOCKDEV_BENCH_SIZE is the size of the image, 1G when unset.
package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// memory is where the files lie, so that no disk is measured.
const memory = "/dev/shm"

// bed is one benchmark: a source, a target and a relay that counts.
type bed struct {
	b        *testing.B
	server   *harness.Server
	relay    *harness.Relay
	client   *harness.Client
	dir      string
	src, dst string
	size     int64
	wire     int64 // bytes of all runs
	peak     int64 // bytes of memory, the largest process of the command
}

func newBed(b *testing.B) *bed {
	require.Need(b, require.Sshd, require.SSH, require.Rsync)
	dir, err := os.MkdirTemp(memory, "blockdev-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	server := harness.Sshd(b)
	relay := harness.NewRelay(b, server.Addr())
	server.KnowPort(b, relay.Port())
	t := &bed{b: b, server: server, relay: relay, client: harness.NewClient(b), dir: dir, size: imageSize(b)}
	t.src, t.dst = filepath.Join(dir, "src.img"), filepath.Join(dir, "dst.img")
	harness.Image{Size: t.size, Zero: 0.25, Text: 0.25, Area: 64 << 20, Seed: 1}.Write(b, t.src)
	t.client.Env["RCLONE_BLOCKDEV_KEY_FILE"] = server.KeyFile
	t.client.Env["RCLONE_BLOCKDEV_KNOWN_HOSTS_FILE"] = server.KnownHosts
	return t
}

func imageSize(b *testing.B) int64 {
	text, factor := os.Getenv("BLOCKDEV_BENCH_SIZE"), int64(1<<30)
	if text == "" {
		return factor
	}
	if rest, ok := strings.CutSuffix(text, "M"); ok {
		text, factor = rest, 1<<20
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(text, "G"), 10, 64)
	if err != nil {
		b.Fatalf("BLOCKDEV_BENCH_SIZE: %v", err)
	}
	return n * factor
}

// remote is path on the host behind the relay.
func (t *bed) remote(path string) string {
	return fmt.Sprintf("blockdev:%s@127.0.0.1:%d%s", t.server.User, t.relay.Port(), path)
}

// tools are the commands that copy src to dst.
func (t *bed) tools(pull bool) map[string]func() *exec.Cmd {
	ssh := "ssh " + strings.Join(t.server.SSHArgs(t.relay.Port()), " ")
	from, to := "blockdev:localhost"+t.src, t.remote(t.dst)
	rsyncFrom, rsyncTo := t.src, "127.0.0.1:"+t.dst
	cat := fmt.Sprintf("cat %s | %s 127.0.0.1 'cat > %s'", t.src, ssh, t.dst)
	if pull {
		from, to = t.remote(t.src), "blockdev:localhost"+t.dst
		rsyncFrom, rsyncTo = "127.0.0.1:"+t.src, t.dst
		cat = fmt.Sprintf("%s 127.0.0.1 'cat %s' > %s", ssh, t.src, t.dst)
	}
	rsync := func(extra ...string) func() *exec.Cmd {
		args := append([]string{"--inplace", "--ignore-times", "--no-whole-file", "-e", ssh}, extra...)
		return func() *exec.Cmd { return exec.Command("rsync", append(args, rsyncFrom, rsyncTo)...) }
	}
	return map[string]func() *exec.Cmd{
		"blockdev": func() *exec.Cmd { return t.client.Command(t.b.Context(), "copyto", "--ignore-times", from, to) },
		"rsync":    rsync(),
		"rsync-4k": rsync("--block-size=4096"),
		"cat":      func() *exec.Cmd { return exec.Command("sh", "-c", cat) },
	}
}

// measure runs the command b.N times, each on a target made by prepare, which is
// not timed.
func (t *bed) measure(command func() *exec.Cmd, prepare func()) {
	b := t.b
	prepare()
	t.run(command) // puts the helper in place, fills caches
	t.wire, t.peak = 0, 0
	b.SetBytes(t.size)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		prepare()
		b.StartTimer()
		t.run(command)
	}
	b.StopTimer()
	harness.Same(b, t.src, t.dst)
	b.ReportMetric(float64(t.wire)/float64(b.N)/1e6, "wireMB/op")
	b.ReportMetric(float64(t.peak)/1e6, "peakMB")
}

func (t *bed) run(command func() *exec.Cmd) {
	t.relay.Reset()
	cmd := command()
	watch := watchMemory()
	out, err := cmd.CombinedOutput()
	peak := watch()
	if err != nil {
		t.b.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	t.wire += t.relay.Total()
	t.peak = max(t.peak, peak, maxRSS(cmd.ProcessState))
}

// compare runs one scenario with each of the named tools.
func compare(b *testing.B, pull bool, names []string, prepare func(t *bed)) {
	for _, name := range names {
		b.Run(name, func(b *testing.B) {
			t := newBed(b)
			t.measure(t.tools(pull)[name], func() { prepare(t) })
		})
	}
}

func BenchmarkIdentical(b *testing.B) {
	compare(b, false, []string{"blockdev", "rsync", "rsync-4k"}, func(t *bed) { t.copyImage() })
}

func BenchmarkScatteredPush(b *testing.B) {
	compare(b, false, []string{"blockdev", "rsync", "rsync-4k"}, func(t *bed) { t.copyImage(); t.scatter() })
}

func BenchmarkScatteredPull(b *testing.B) {
	compare(b, true, []string{"blockdev", "rsync", "rsync-4k"}, func(t *bed) { t.copyImage(); t.scatter() })
}

func BenchmarkGatheredPush(b *testing.B) {
	compare(b, false, []string{"blockdev", "rsync", "rsync-4k"}, func(t *bed) { t.copyImage(); harness.Gather(b, t.dst, 0.01, 8) })
}

func BenchmarkHalfPush(b *testing.B) {
	compare(b, false, []string{"blockdev", "rsync", "rsync-4k", "cat"}, func(t *bed) { t.copyImage(); harness.Scatter(b, t.dst, 0.5, 9) })
}

func BenchmarkFirstPush(b *testing.B) {
	compare(b, false, []string{"blockdev", "rsync", "cat"}, func(t *bed) { os.Remove(t.dst) })
}

func BenchmarkFirstPull(b *testing.B) {
	compare(b, true, []string{"blockdev", "rsync", "cat"}, func(t *bed) { os.Remove(t.dst) })
}

// copyImage makes the target equal to the source.
func (t *bed) copyImage() {
	if out, err := exec.Command("cp", "--sparse=never", t.src, t.dst).CombinedOutput(); err != nil {
		t.b.Fatalf("cp: %v: %s", err, out)
	}
}

// scatter changes 1 % of the blocks of the target, at random places.
func (t *bed) scatter() { harness.Scatter(t.b, t.dst, 0.01, 7) }
