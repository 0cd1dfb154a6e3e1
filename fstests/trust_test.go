package fstests

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

const (
	trustStripe = 256 << 20
	trustSize   = 5*trustStripe + 7<<20
)

// interruption ends a copy at a moment.
type interruption struct {
	name    string
	args    []string
	end     func(x *trial, cmd *exec.Cmd)
	orderly bool // the copy sees to its end: what was done is trusted afterwards
}

var interruptions = []interruption{
	{"killed", nil, func(_ *trial, cmd *exec.Cmd) { _ = cmd.Process.Kill() }, false},
	{"Ctrl-C", nil, func(_ *trial, cmd *exec.Cmd) { _ = cmd.Process.Signal(syscall.SIGINT) }, true},
	{"cut", []string{"--blockdev-retry-time", "0"}, func(x *trial, _ *exec.Cmd) { x.relay.Cut() }, false},
	{"terminated", nil, func(_ *trial, cmd *exec.Cmd) { _ = cmd.Process.Signal(syscall.SIGTERM) }, true},
}

var loggedNumber = map[string]*regexp.Regexp{
	"trusted": regexp.MustCompile(`"trusted":(\d+)`), "targetRead": regexp.MustCompile(`"targetRead":(\d+)`), "targetHoles": regexp.MustCompile(`"targetHoles":(\d+)`),
}

func numberOf(log, key string) (n int64) {
	if m := loggedNumber[key].FindStringSubmatch(log); m != nil {
		n, _ = strconv.ParseInt(m[1], 10, 64)
	}
	return n
}

// TestTrust interrupts copies with resume = trust at random moments, in the ways in which they are interrupted. The next
// one reads of the target what is left, when nobody has written to it since, and all of it else. It is identical in any case.
func TestTrust(t *testing.T) {
	l := newLine(t)
	l.client.Env["RCLONE_BLOCKDEV_RESUME"], l.client.Env["RCLONE_BLOCKDEV_STREAMS"] = "trust", "2"
	spared, doubted, tried := map[string]int{}, 0, map[bool]int{}
	for i := range harness.Runs(t, 8, 100) { // in the first ones something is done by their moment
		written := i/4%2 == 1
		tried[written]++
		how, n := l.untrue(t, i, interruptions[i%4], written)
		switch {
		case n > 0 && written:
			t.Errorf("run %d: %d bytes were trusted though somebody has written to the target", i, n)
		case n > 0:
			spared[how]++
		case written:
			doubted++
		}
	}
	if len(spared) == 0 { // what is done by a random moment may be nothing
		t.Error("nothing was trusted in any run: nothing was tested")
	}
	t.Logf("trusted after %v, doubted %d times", spared, doubted)
	harness.Tried(t, "trust-interrupted", tried[false], "what was done was trusted after "+strings.Trim(fmt.Sprint(spared), "map[]"))
	harness.Tried(t, "trust-written", tried[true])
}

// untrue is one run of TestTrust. It gives how many bytes were trusted.
func (l *line) untrue(t *testing.T, i int, how interruption, written bool) (string, int64) {
	t.Helper()
	dir := t.TempDir()
	x := &trial{line: l, random: rand.New(rand.NewPCG(uint64(i), 14)), source: filepath.Join(dir, "source.img"), target: filepath.Join(dir, "target.img")}
	image := x.target // x.target may become a device, which must not be removed
	defer func() { _, _ = os.Remove(x.source), os.Remove(image) }()
	harness.Image{Size: trustSize, Hole: 0.97, Text: 0.01, Area: 256 << 10, Seed: uint64(i)}.Write(t, x.source)
	if i%3 == 1 {
		disk := harness.Loop(t, trustSize)
		defer disk.Detach(t)
		x.target = disk.Path
	} else if err := os.WriteFile(x.target, nil, 0o600); err != nil || os.Truncate(x.target, trustSize) != nil {
		t.Fatal(err)
	}
	l.relay.Reset()
	l.relay.Trickle(8 << 20)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	args := append([]string{"copyto", x.source, x.there(x.target), "-v", "--use-json-log", "--ignore-times"}, how.args...)
	cmd := l.client.Command(ctx, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running, over := context.WithCancel(ctx)
	moment := make(chan map[int][]string)
	go func() { // until it has ended, since a copy that is quick is no fault
		x.begun(running, 1<<20)
		helpers := l.server.Sessions()
		x.pauseFor(running, time.Duration(1000+x.random.IntN(2500))*time.Millisecond)
		if running.Err() == nil {
			how.end(x, cmd)
		}
		moment <- helpers
	}()
	failed := cmd.Wait() != nil
	over()
	helpers := <-moment
	l.relay.Trickle(0)
	if i%2 == 0 {
		l.gone(t, helpers)
	}
	if written {
		time.Sleep(100 * time.Millisecond) // what was on its way to the target is there
		x.scribble(t)
	}
	cmd = l.client.Command(ctx, args[:6]...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("run %d, %s: %v: %s", i, how.name, err, out)
	}
	harness.Same(t, x.source, x.target)
	n := numberOf(string(out), "trusted")
	if all := n + numberOf(string(out), "targetRead") + numberOf(string(out), "targetHoles"); failed && all != trustSize {
		t.Errorf("run %d, %s: %d bytes of the target are accounted for: %s", i, how.name, all, out)
	}
	if how.orderly && !written && n == 0 && strings.Contains(string(out), "parts were read through") {
		t.Errorf("run %d, %s: what was done is not trusted: %s", i, how.name, out)
	}
	t.Logf("run %d, %s, %s, written %v: %d MiB trusted: %s", i, how.name, filepath.Base(x.target), written, n>>20, doubtOf(string(out)))
	return how.name, n
}

// pauseFor waits, or until ctx ends.
func (x *trial) pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// scribble writes to the target in one of the ways that programs have.
func (x *trial) scribble(t *testing.T) {
	t.Helper()
	direct := []string{"oflag=direct", "conv=notrunc"}
	buffered := []string{"conv=notrunc"}
	flags := [][]string{direct, buffered}[x.random.IntN(2)]
	args := append([]string{"if=/dev/urandom", "of=" + x.target, "bs=4096", "count=1", fmt.Sprintf("seek=%d", x.random.IntN(trustSize/4096)), "status=none"}, flags...)
	if out, err := exec.Command("dd", args...).CombinedOutput(); err != nil {
		t.Fatalf("dd: %v: %s", err, out)
	}
}

// doubtOf is the line of a log that says why nothing was trusted.
func doubtOf(log string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "not trusted, and") || strings.Contains(line, "has no effect") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
