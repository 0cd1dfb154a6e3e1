package fstests

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// TestCuts_NothingTwice cuts the line in the second of three stripes, and counts what all helpers of the host read: the
// first stripe once.
func TestCuts_NothingTwice(t *testing.T) {
	const stripe = 256 << 20
	l := newLine(t)
	dir := t.TempDir()
	reads := filepath.Join(dir, "reads")
	// What a process has read is told of its parent too when that has waited for it.
	script := fmt.Sprintf("#!/bin/sh\n%s \"$@\"\ngrep '^rchar' /proc/$$/io >>%s\n", harness.Bin(t, "blockdev-helper"), reads)
	l.client.Env["RCLONE_BLOCKDEV_HELPER_PATH"] = filepath.Join(dir, "helper")
	if err := os.WriteFile(l.client.Env["RCLONE_BLOCKDEV_HELPER_PATH"], []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	l.client.Env["RCLONE_BLOCKDEV_STREAMS"] = "1"
	x := &trial{line: l, source: filepath.Join(dir, "source.img"), target: filepath.Join(dir, "target.img")}
	im := harness.Image{Size: 3 * stripe, Area: 1 << 20, Seed: 5}
	im.Write(t, x.source)
	im.Write(t, x.target)
	other := harness.RecordedContent(24<<20, 6)
	f, err := os.OpenFile(x.target, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for at, n := range map[int64]int{0: 8 << 20, stripe: 24 << 20} { // what differs in the first stripe, and in the second
		if _, err := f.WriteAt(other[:n], at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	x.target = harness.LoopOn(t, x.target).Path // a file that is cached is looked at in place, which counts as nothing read
	l.relay.CutAfter(20 << 20)
	r := flows[0].copy(t.Context(), x)
	if lost := strings.Count(r.Stderr, "lost, resuming"); r.Code != 0 || lost != 1 {
		t.Fatalf("rclone ended with %d and lost %d connections: %s", r.Code, lost, r.Stderr)
	}
	harness.Same(t, x.source, x.target)
	l.gone(t, l.server.Sessions())
	total := sumReads(t, reads)
	const room = 48 << 20 // what came over the line, and the shells
	if total < 3*stripe || total > 4*stripe+room {
		t.Errorf("the helpers read %d MiB of a target of %d MiB", total>>20, 3*stripe>>20)
	}
	harness.Tried(t, "cut-scanned", 1, fmt.Sprintf("the helpers of the host read %d MiB of a target of %d MiB, one stripe of which was begun twice", total>>20, 3*stripe>>20))
}

// sumReads adds the bytes that the helpers read.
func sumReads(t *testing.T, path string) (total int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimPrefix(line, "rchar:")), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	return total
}

// TestInterrupt ends rclone in the middle of a copy in the ways in which users do. It says what state the target is in,
// ends at once with its helpers, and the next run completes the copy.
func TestInterrupt(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"CtrlC": syscall.SIGINT, "Terminate": syscall.SIGTERM} {
		for _, fresh := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/new=%v", name, fresh), func(t *testing.T) {
				t.Parallel() // most of the time they wait
				l := newLine(t)
				dir := t.TempDir()
				x := &trial{line: l, source: filepath.Join(dir, "source.img"), target: filepath.Join(dir, "target.img")}
				harness.Image{Size: 64 << 20, Seed: 1}.Write(t, x.source)
				if !fresh {
					harness.Image{Size: 64 << 20, Seed: 2}.Write(t, x.target)
				}
				l.relay.Trickle(4 << 20)
				cmd := l.client.Command(t.Context(), "copyto", x.source, x.there(x.target))
				var stderr strings.Builder
				cmd.Stderr = &stderr
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				x.begun(t.Context(), 1<<20)
				helpers := l.server.Sessions()
				start := time.Now()
				if err := cmd.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				err := cmd.Wait()
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("it took %v to end", took)
				}
				var exit *exec.ExitError
				if err == nil || !errors.As(err, &exit) || !exit.Exited() {
					t.Errorf("rclone ended with %v", err)
				}
				state := "partly updated"
				if fresh {
					state = "not there yet"
				}
				if !strings.Contains(stderr.String(), "interrupted: the target is "+state+"; the same command completes it") {
					t.Errorf("it does not say what state the target is in: %s", stderr.String())
				}
				if _, err := os.Stat(x.target); fresh && err == nil {
					t.Error("a half image has its name")
				}
				l.gone(t, helpers)
				l.relay.Trickle(0)
				if r := flows[0].copy(t.Context(), x); r.Code != 0 {
					t.Fatalf("the next run: %s", r.Stderr)
				}
				harness.Same(t, x.source, x.target)
				if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
					t.Errorf("%v is left", left)
				}
				harness.Tried(t, "interrupt", 1)
			})
		}
	}
}

// TestStopped stops rclone in the middle of a copy, as Ctrl-Z does, and lets it go on: the copy succeeds. In its long form
// that is after more than the two minutes for which helpers wait, and the target is free meanwhile.
func TestStopped(t *testing.T) {
	t.Parallel() // most of the time it waits
	pause := 3 * time.Second
	if require.Long() {
		pause = wire.AliveLimit + 30*time.Second
	}
	l := newLine(t)
	dir := t.TempDir()
	x := &trial{line: l, source: filepath.Join(dir, "source.img"), target: filepath.Join(dir, "target.img")}
	harness.Image{Size: 64 << 20, Seed: 1}.Write(t, x.source)
	harness.Image{Size: 64 << 20, Seed: 2}.Write(t, x.target)
	l.relay.Trickle(8 << 20)
	cmd := l.client.Command(t.Context(), "copyto", x.source, x.there(x.target))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	x.begun(t.Context(), 4<<20)
	helpers := l.server.Sessions()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(pause)
	ended := 0
	for pid, args := range helpers {
		if strings.Contains(args[0], "blockdev-helper") && len(harness.Processes()[pid]) == 0 {
			ended++
		}
	}
	if long := pause > wire.AliveLimit; long != (ended > 0) {
		t.Errorf("%d helpers have ended after %v", ended, pause)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("rclone ended with %v: %s", err, stderr.String())
	}
	harness.Same(t, x.source, x.target)
	harness.Tried(t, "stopped", 1, fmt.Sprintf("for %v, after which %d helpers had ended", pause, ended))
}
