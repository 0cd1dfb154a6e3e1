package fstests

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// victim is what is killed in the middle of a copy.
type victim struct {
	name  string
	fault string // of harness.Faults
	kill  func(x *trial, client context.CancelFunc)
	ends  bool // rclone is the one
}

var victims = []victim{
	{"Client", "kill-client", func(_ *trial, client context.CancelFunc) { client() }, true}, // the package os/exec kills it
	{"Helper", "kill-helper", func(x *trial, _ context.CancelFunc) { x.killOne("blockdev-helper") }, false},
	{"Sshd", "kill-sshd", func(x *trial, _ context.CancelFunc) { x.killOne("sshd") }, false},
}

// killOne kills a process of the server's sessions whose program has that in its name.
func (x *trial) killOne(program string) {
	var found []int
	for pid, args := range x.server.Sessions() {
		if strings.Contains(args[0], program) {
			found = append(found, pid)
		}
	}
	if len(found) > 0 {
		_ = syscall.Kill(found[x.random.IntN(len(found))], syscall.SIGKILL) // it may have ended since
	}
}

// TestKills kills one of the programs at random moments. None of the others stays, no new image is seen half, and
// the copy, or the next one when rclone was killed, is whole and leaves nothing else behind.
func TestKills(t *testing.T) {
	for _, v := range victims {
		t.Run(v.name, func(t *testing.T) {
			l := newLine(t)
			early, runs, tried := 0, harness.Runs(t, 4, 34), 0
			for ; tried < runs || early == 0 && tried < 5*runs; tried++ { // a moment that is too late is no test
				if l.murder(t, v, flows[tried%4], uint64(tried)+1) { // not the flow that only reads
					early++
				}
			}
			if early == 0 {
				t.Error("nothing was killed before its end in any run: nothing was tested")
			}
			harness.Tried(t, v.fault, tried, fmt.Sprintf("%d of them in the middle of a copy", early))
		})
	}
}

// murder is one run of TestKills. It reports whether the copy was disturbed.
func (l *line) murder(t *testing.T, v victim, f flow, seed uint64) bool {
	t.Helper()
	x := &trial{line: l, random: rand.New(rand.NewPCG(seed, uint64(len(v.name))))}
	defer x.image(t, f.size)()
	_, err := os.Stat(x.target)
	fresh := err != nil
	l.relay.Reset()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	running, client := context.WithCancel(ctx)
	defer client()
	ended := make(chan harness.Result, 1)
	go func() {
		ended <- f.copy(running, x)
		client() // nobody waits for a moment that will not come
	}()
	if !v.ends { // before, nothing that goes on is there
		x.begun(running, 4*login)
	}
	x.moment(running)
	helpers := l.server.Sessions()
	v.kill(x, client)
	r := <-ended
	disturbed := r.Code != 0 || strings.Contains(r.Stderr, "lost, resuming")
	if _, err := os.Stat(x.target); v.ends && fresh && err == nil {
		harness.Same(t, x.source, x.target)
	}
	if v.ends {
		l.gone(t, helpers)
		r = f.copy(ctx, x)
	}
	if r.Code != 0 {
		t.Fatalf("seed %d, %s: rclone ended with %d: %s", seed, f.name, r.Code, r.Stderr)
	}
	harness.Same(t, x.source, x.target)
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(x.target), ".*")); err != nil || len(left) > 0 {
		t.Errorf("seed %d, %s: %v is left, %v", seed, f.name, left, err)
	}
	l.gone(t, helpers)
	return disturbed
}

// gone fails unless all of these processes have ended, now or within half a minute.
func (l *line) gone(t *testing.T, processes map[int][]string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		now, left := harness.Processes(), 0
		for pid, args := range processes {
			if strings.Join(now[pid], " ") == strings.Join(args, " ") {
				left++
			}
		}
		if left == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %v are still there", left, processes)
		}
	}
}
