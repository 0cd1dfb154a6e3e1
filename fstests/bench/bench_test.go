//go:build unix

// Package bench compares whole commands: rclone-blockdev, and the tools people
// use today, over a private sshd on the loopback interface, both ends on one
// machine, files in memory or devices. Nothing runs without -bench:
//
//	go test -run '^$' -bench . -benchtime 3x -timeout 0 ./fstests/bench
//
// The figures of one run are to be compared with each other, never with those of
// another machine. BLOCKDEV_BENCH_SIZE is the size of the image, 1G when unset. The
// program in report makes tables and plots of what is written.
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

// bed is a source, a target and a relay that counts. All tools and states of the target in one benchmark share it.
//
// Commands go through the relay only to be counted or delayed: it takes processor time, and for up to 40 ms the kernel
// holds back a small packet of the server until the one before it is acknowledged, which relays do late.
type bed struct {
	b        *testing.B
	server   *harness.Server
	relay    *harness.Relay
	relayed  bool // the next commands go through the relay
	client   *harness.Client
	dir      string
	src, dst string
	size     int64
	given    bool             // source and target were there before, and are kept
	unequal  *bool            // a run failed, so a given target may hold anything
	warm     map[string]bool  // tools, with the direction, that have run once
	wire     map[string]int64 // bytes that a run took, by the name of the benchmark
	run      usage            // of the runs that count
}

// usage is what runs have taken, both ends together where nothing else is said.
type usage struct {
	cpu  time.Duration
	peak memory // the highest of all runs
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
	t := &bed{b: b, server: server, relay: relay, client: harness.NewClient(b), dir: dir,
		warm: map[string]bool{}, wire: map[string]int64{}, unequal: new(bool)}
	t.client.Env["RCLONE_BLOCKDEV_KEY_FILE"] = server.KeyFile
	t.client.Env["RCLONE_BLOCKDEV_KNOWN_HOSTS_FILE"] = server.KnownHosts
	return t
}

// madeUp gives a bed whose source is an image in memory.
func madeUp(b *testing.B) *bed {
	t := newBed(b)
	var err error
	if t.size, err = imageSize(); err != nil {
		b.Fatal(err)
	}
	t.src, t.dst = filepath.Join(t.dir, "src.img"), filepath.Join(t.dir, "dst.img")
	// Small images have fewer areas than it takes to have some of each kind.
	area := int(min(64<<20, max(1<<20, t.size/16)))
	harness.Image{Size: t.size, Zero: 0.25, Text: 0.25, Area: area, Seed: 1}.Write(b, t.src)
	return t
}

// imageSize is the size of made-up images in bytes.
func imageSize() (int64, error) {
	text, factor := os.Getenv("BLOCKDEV_BENCH_SIZE"), int64(1<<30)
	if text == "" {
		return factor, nil
	}
	if rest, ok := strings.CutSuffix(text, "M"); ok {
		text, factor = rest, 1<<20
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(text, "G"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("BLOCKDEV_BENCH_SIZE must be like 512M or 4G: %w", err)
	}
	return n * factor, nil
}

// port is where the next command finds the host.
func (t *bed) port() int {
	if t.relayed {
		return t.relay.Port()
	}
	return t.server.Port
}

// remote is path on the host.
func (t *bed) remote(path string) string {
	return fmt.Sprintf("blockdev:%s@127.0.0.1:%d%s", t.server.User, t.port(), path)
}

// with is the same bed for a benchmark below the one that made it.
func (t *bed) with(b *testing.B) *bed {
	sub := *t
	sub.b, sub.run = b, usage{}
	return &sub
}

// measure runs the tool b.N times, each on a target made by prepare, which is not timed.
func (t *bed) measure(pull bool, tool string, prepare func(t *bed)) {
	command := func() *exec.Cmd { return t.tools(pull)[tool]() }
	t.measureCommand(fmt.Sprint(tool, pull), command, func() { prepare(t) })
}

// measureCommand is measure of any command. What has a name was run before, or is run once before it counts.
func (t *bed) measureCommand(name string, command func() *exec.Cmd, prepare func()) {
	b := t.b
	if !t.warm[name] {
		prepare()
		t.once(command) // puts the helper in place, fills caches
		t.warm[name] = true
	}
	if _, counted := t.wire[b.Name()]; !counted {
		far := t.relayed
		t.relayed = true
		prepare()
		t.once(command)
		t.relayed, t.wire[b.Name()] = far, t.relay.Total()
	}
	t.run = usage{}
	b.SetBytes(t.size)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		prepare()
		b.StartTimer()
		t.once(command)
	}
	b.StopTimer()
	harness.Same(b, t.src, t.dst)
	b.ReportMetric(float64(t.wire[b.Name()])/1e6, "wireMB/op")
	if peak := t.run.peak; peak.command > 0 && peak.host > 0 { // a short process may not have been seen
		b.ReportMetric(float64(peak.command)/1e6, "commandMB")
		b.ReportMetric(float64(peak.host)/1e6, "hostMB")
	}
	b.ReportMetric(t.run.cpu.Seconds()/float64(b.N), "cpu-s/op")
	if st, err := os.Stat(t.dst); err == nil && st.Mode().IsRegular() { // a device does not tell
		b.ReportMetric(float64(harness.Allocated(b, t.dst))/1e6, "allocatedMB")
	}
}

// once runs the command and adds up what it takes. If it goes through the relay, that has counted it alone.
func (t *bed) once(command func() *exec.Cmd) {
	t.relay.Reset()
	cmd := command()
	before := t.server.CPU()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Start()
	if err == nil {
		watch := watchMemory(cmd.Process.Pid, t.server.Pid())
		err = cmd.Wait()
		t.run.peak = t.run.peak.max(watch())
	}
	if err != nil {
		*t.unequal = true
		t.b.Fatalf("%v: %v\n%s", cmd.Args, err, out.Bytes())
	}
	t.run.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() + t.server.CPU() - before
}

// compare measures one state of the target with each of the named tools, as far as they are on PATH.
func (t *bed) compare(b *testing.B, pull bool, names []string, prepare func(t *bed)) {
	for _, name := range names {
		if !ours[name] && !onPath(name) {
			b.Logf("%s is not on PATH and left out", name)
			continue
		}
		b.Run("tool="+name, func(b *testing.B) { t.with(b).measure(pull, name, prepare) })
	}
}
