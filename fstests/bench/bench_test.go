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
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// inMemory is where the files lie, so that no disk is measured.
const inMemory = "/dev/shm"

// bed is one benchmark: a source, a target and a relay that counts.
type bed struct {
	b        *testing.B
	server   *harness.Server
	relay    *harness.Relay
	client   *harness.Client
	dir      string
	src, dst string
	size     int64
	wire     int64         // bytes of all runs
	peak     memory        // of all runs
	cpu      time.Duration // processor time of both ends, of all runs
}

func newBed(b *testing.B) *bed {
	require.Need(b, require.Sshd, require.SSH, require.Rsync)
	dir, err := os.MkdirTemp(inMemory, "blockdev-bench-")
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

// measure runs the command b.N times, each on a target made by prepare, which is
// not timed.
func (t *bed) measure(command func() *exec.Cmd, prepare func()) {
	b := t.b
	prepare()
	t.run(command) // puts the helper in place, fills caches
	t.wire, t.peak, t.cpu = 0, memory{}, 0
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
	b.ReportMetric(float64(t.peak.command)/1e6, "commandMB")
	if t.peak.helper > 0 {
		b.ReportMetric(float64(t.peak.helper)/1e6, "helperMB")
	}
	b.ReportMetric(t.cpu.Seconds()/float64(b.N), "cpu-s/op")
}

func (t *bed) run(command func() *exec.Cmd) {
	t.relay.Reset()
	cmd := command()
	before := t.server.CPU()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Start()
	if err == nil {
		watch := watchMemory(cmd.Process.Pid)
		err = cmd.Wait()
		t.peak = t.peak.max(watch())
	}
	if err != nil {
		t.b.Fatalf("%v: %v\n%s", cmd.Args, err, out.Bytes())
	}
	t.wire += t.relay.Total()
	t.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() + t.server.CPU() - before
}

// peers are the tools that a scenario is compared with, as far as they are on PATH.
var peers = []string{"blockdev", "rsync", "rsync-4k", "blocksync-fast", "blocksync-fast-16k", "bdsync", "bdsync-16k", "diskrsync"}

// compare runs one scenario with each of the named tools.
func compare(b *testing.B, pull bool, names []string, prepare func(t *bed)) {
	for _, name := range names {
		if !ours[name] && !onPath(name) {
			b.Logf("%s is not on PATH and left out", name)
			continue
		}
		b.Run(name, func(b *testing.B) {
			t := newBed(b)
			t.measure(t.tools(pull)[name], func() { prepare(t) })
		})
	}
}

func BenchmarkIdentical(b *testing.B) {
	compare(b, false, peers, func(t *bed) { t.copyImage() })
}

func BenchmarkScatteredPush(b *testing.B) {
	compare(b, false, peers, func(t *bed) { t.copyImage(); t.scatter() })
}

func BenchmarkScatteredPull(b *testing.B) {
	compare(b, true, peers, func(t *bed) { t.copyImage(); t.scatter() })
}

func BenchmarkGatheredPush(b *testing.B) {
	compare(b, false, peers, func(t *bed) { t.copyImage(); harness.Gather(b, t.dst, 0.01, 8) })
}

func BenchmarkHalfPush(b *testing.B) {
	compare(b, false, append(peers, "cat"), func(t *bed) { t.copyImage(); harness.Scatter(b, t.dst, 0.5, 9) })
}

func BenchmarkFirstPush(b *testing.B) {
	compare(b, false, []string{"blockdev", "blockdev-ssh", "rsync", "diskrsync", "cat"}, func(t *bed) { os.Remove(t.dst) })
}

func BenchmarkFirstPull(b *testing.B) {
	compare(b, true, []string{"blockdev", "blockdev-ssh", "rsync", "diskrsync", "cat"}, func(t *bed) { os.Remove(t.dst) })
}

// copyImage makes the target equal to the source.
func (t *bed) copyImage() {
	if out, err := exec.Command("cp", "--sparse=never", t.src, t.dst).CombinedOutput(); err != nil {
		t.b.Fatalf("cp: %v: %s", err, out)
	}
}

// scatter changes 1 % of the blocks of the target, at random places.
func (t *bed) scatter() { harness.Scatter(t.b, t.dst, 0.01, 7) }
