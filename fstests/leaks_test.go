package fstests

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// holdings is what a process and its host have at a moment at which nothing runs.
type holdings struct {
	descriptors, goroutines int
	memory                  int64 // bytes
}

// cycles is one process that makes small syncs.
type cycles struct {
	*line
	d        *daemon
	dir      string // from is the source, to is at the host, back is a copy of that
	random   *rand.Rand
	cuts     int
	refusals int
	stopped  int
}

// TestLeaks makes small syncs in one process, as one that runs for a day does, with everything between that can go
// wrong. What it holds at the end is what it held after the first ones.
func TestLeaks(t *testing.T) {
	l := newLine(t)
	c := &cycles{line: l, dir: t.TempDir(), random: rand.New(rand.NewPCG(1, 1))}
	for _, dir := range []string{"from", "to", "back"} {
		if err := os.Mkdir(filepath.Join(c.dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		harness.Image{Size: 1 << 20, Text: 0.5, Seed: uint64(i)}.Write(t, c.path("from", i))
	}
	c.d = l.daemon(t, "rcd", "--blockdev-idle-timeout", "2s", "--rc-job-expire-duration", "1s", "--rc-job-expire-interval", "1s")
	runs := harness.Runs(t, 100, 2000)
	var first holdings
	start := time.Now()
	for i := range runs {
		if i == runs/10 {
			first = c.rest(t, holdings{})
		}
		c.cycle(t, i)
	}
	took := time.Since(start)
	last := c.rest(t, first)
	if last.descriptors > first.descriptors {
		t.Errorf("%d descriptors after %d cycles, %d after the first", last.descriptors, runs, first.descriptors)
	}
	if last.goroutines > first.goroutines {
		t.Errorf("%d goroutines after %d cycles, %d after the first", last.goroutines, runs, first.goroutines)
	}
	if grown := last.memory - first.memory; grown > 64<<20 {
		t.Errorf("rclone has grown by %d bytes", grown)
	}
	c.nothingLeft(t)
	if c.cuts == 0 || c.refusals == 0 || c.stopped == 0 {
		t.Errorf("%d cuts, %d refusals, %d jobs stopped: nothing was tested", c.cuts, c.refusals, c.stopped)
	}
	shows := fmt.Sprintf("%d cycles in %v, with %d lines cut, %d refusals and %d jobs stopped; after the first tenth and at the end: descriptors %d and %d, goroutines %d and %d, memory %d and %d MiB, helpers none",
		runs, took.Round(time.Second), c.cuts, c.refusals, c.stopped, first.descriptors, last.descriptors, first.goroutines, last.goroutines, first.memory/mib, last.memory/mib)
	t.Log(shows)
	harness.Tried(t, "leaks", runs, shows)
}

func (c *cycles) path(dir string, i int) string {
	return filepath.Join(c.dir, dir, fmt.Sprintf("disk%d.img", i))
}

// there names a folder at the host.
func (c *cycles) there(dir string) string { return c.line.there(filepath.Join(c.dir, dir)) }

// cycle changes one image, syncs, and reads it back; now and then something goes wrong.
func (c *cycles) cycle(t *testing.T, i int) {
	t.Helper()
	image := c.random.IntN(3)
	harness.Scatter(t, c.path("from", image), 0.02, uint64(i)+1)
	if i%10 == 5 { // what is idle is cut off
		c.cuts++
		c.relay.Cut()
	}
	if i%25 == 12 { // and what runs is, too
		c.cuts++
		c.relay.Reset()
		c.relay.CutAfter(8 << 10)
	}
	must := func(what string, in params) {
		t.Helper()
		in["_group"] = "cycles"
		if _, err := c.d.call(what, in); err != nil {
			t.Fatalf("cycle %d: %v", i, err)
		}
	}
	must("sync/copy", params{"srcFs": filepath.Join(c.dir, "from"), "dstFs": c.there("to")})
	harness.Same(t, c.path("from", image), c.path("to", image))
	if i%3 == 0 {
		name := filepath.Base(c.path("to", image))
		must("operations/copyfile", params{"srcFs": c.there("to"), "srcRemote": name, "dstFs": filepath.Join(c.dir, "back"), "dstRemote": name})
		harness.Same(t, c.path("from", image), c.path("back", image))
	}
	if i%20 == 7 { // a refusal
		c.refusals++
		in := params{"srcFs": filepath.Join(c.dir, "from"), "srcRemote": "disk0.img", "dstFs": c.line.there("/dev"), "dstRemote": "none", "_group": "cycles"}
		if _, err := c.d.call("operations/copyfile", in); err == nil {
			t.Fatalf("cycle %d: a file was made in /dev", i)
		}
	}
	if i%20 == 13 {
		c.stop(t, i)
	}
}

// stop begins a copy and stops it in the middle.
func (c *cycles) stop(t *testing.T, i int) {
	t.Helper()
	c.stopped++
	source := filepath.Join(c.dir, "large.img")
	if _, err := os.Stat(source); err != nil {
		harness.Image{Size: 24 << 20, Seed: 9}.Write(t, source)
	}
	c.relay.Trickle(4 << 20)
	job, err := c.d.call("operations/copyfile", params{"srcFs": c.dir, "srcRemote": "large.img", "dstFs": c.line.there(c.dir), "dstRemote": "stopped.img", "_async": true, "_group": "cycles"})
	if err != nil {
		t.Fatalf("cycle %d: %v", i, err)
	}
	time.Sleep(time.Duration(c.random.IntN(200)) * time.Millisecond)
	_, _ = c.d.call("job/stop", params{"jobid": job["jobid"]}) // it may have failed by itself
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		state, err := c.d.call("job/status", params{"jobid": job["jobid"]})
		if err != nil || state["finished"] == true {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("cycle %d: the job goes on", i)
		}
	}
	c.relay.Trickle(0)
}

// rest waits until the idle connections have been closed, and for what is still about to end to come down to want, and
// returns what is held then.
func (c *cycles) rest(t *testing.T, want holdings) (now holdings) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		helpers := c.server.Sessions()
		now = holdings{c.d.descriptors(t), c.d.goroutines(t), memory(c.d.cmd.Process.Pid, "VmRSS")}
		settled := want == holdings{} && time.Until(end) < 14*time.Second || now.descriptors <= want.descriptors && now.goroutines <= want.goroutines
		if len(helpers) == 0 && settled {
			return now
		}
		if time.Now().After(end) {
			if len(helpers) > 0 {
				t.Errorf("the server has still %v", helpers)
			}
			return now
		}
	}
}

// nothingLeft fails when there are files that no sync has asked for.
func (c *cycles) nothingLeft(t *testing.T) {
	t.Helper()
	for _, dir := range []string{c.dir, c.server.Runtime, c.server.Home} {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && (dir != c.dir || strings.HasPrefix(d.Name(), ".") || !strings.HasSuffix(d.Name(), ".img")) {
				t.Errorf("%s is left", path)
			}
			return nil
		})
	}
}
