package fstests

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

const (
	loadDisks     = 64
	loadTransfers = 16
	loadLoops     = 4         // disks that are block devices at the host, where that is possible
	loadSmall     = 4 << 20   // bytes of most disks
	loadLarge     = 520 << 20 // of the others, nearly all of it holes: three stripes, so three sessions
)

// loadPeak is the most that was seen of something while 64 disks were copied.
type loadPeak struct {
	client, helper, helpers int64 // bytes of memory
	helpersAtOnce           int
	connections             int           // in all
	sessions                int           // on one connection
	stall                   time.Duration // of a transfer, while others went on
	staller                 string
}

// TestLoad copies 64 disks at once to a host whose SSH server has its defaults: at most 10 sessions on a connection, and
// few that are logging in. All must move, none may be refused, and memory is bounded.
func TestLoad(t *testing.T) {
	t.Run("BuiltIn", func(t *testing.T) {
		l := newLine(t, harness.SshdConfig("LogLevel VERBOSE"))
		x := l.load(t, harness.Runs(t, 12, loadDisks))
		if x.sessions > 8 || x.sessions == 0 {
			t.Errorf("%d sessions on a connection", x.sessions)
		}
		if x.helpersAtOnce <= 8 {
			t.Errorf("only %d sessions at once: nothing was tested", x.helpersAtOnce)
		}
		harness.Tried(t, "load", loadDisks, x.String())
	})
	t.Run("Program", func(t *testing.T) { // each session is a connection
		require.Need(t, require.SSH)
		l := newLine(t, harness.SshdConfig("LogLevel VERBOSE"))
		l.client.Env["RCLONE_BLOCKDEV_SSH"] = "ssh " + strings.Join(l.server.SSHArgs(l.relay.Port()), " ")
		x := l.load(t, harness.Runs(t, 12, loadDisks))
		if x.sessions != 1 {
			t.Errorf("%d sessions on a connection", x.sessions)
		}
		harness.Tried(t, "load-program", loadDisks, x.String())
	})
}

// load copies the disks, large ones among them, and checks what holds for every way to the host.
func (l *line) load(t *testing.T, large int) (x loadPeak) {
	t.Helper()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	disks := makeDisks(t, from, to, large)
	d := l.daemon(t, "copy", "--rc", "--transfers", fmt.Sprint(loadTransfers), "--retries", "1", from, l.there(to))
	x = l.watch(t, d)
	if err := <-d.ended; err != nil {
		t.Fatalf("rclone ended with %v: %s", err, d.stderr.String())
	}
	for _, name := range disks {
		harness.Same(t, filepath.Join(from, name), filepath.Join(to, name))
	}
	log := l.server.Log()
	for _, refusal := range []string{"no more sessions", "MaxStartups", "drop connection"} {
		if strings.Contains(log, refusal) {
			t.Errorf("the server said %q", refusal)
		}
	}
	x.connections, x.sessions = sessionsOf(log)
	if x.stall > time.Minute {
		t.Errorf("%s stood still for %v while others moved", x.staller, x.stall)
	}
	if limit := int64(200+24*x.helpersAtOnce) * mib; x.client > limit {
		t.Errorf("rclone took %d bytes with %d sessions", x.client, x.helpersAtOnce)
	}
	if x.helper > 64*mib {
		t.Errorf("a helper took %d bytes", x.helper)
	}
	t.Log(x)
	return x
}

// String is what was seen, for people.
func (x loadPeak) String() string {
	return fmt.Sprintf("at most %d helpers at once, over %d connections in all, %d on one; rclone took at most %d MiB, a helper %d MiB, all helpers %d MiB; no transfer stood still for longer than %v",
		x.helpersAtOnce, x.connections, x.sessions, x.client/mib, x.helper/mib, x.helpers/mib, x.stall.Round(100*time.Millisecond))
}

// makeDisks makes the sources, and older versions of half of them as targets.
func makeDisks(t *testing.T, from, to string, large int) (names []string) {
	t.Helper()
	for _, dir := range []string{from, to} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	loops := 0
	if require.Missing(require.Loop) == nil {
		loops = loadLoops
	}
	for i := range loadDisks {
		name := fmt.Sprintf("disk%02d.img", i)
		names = append(names, name)
		im := harness.Image{Size: loadSmall, Text: 0.3, Seed: uint64(i) + 1}
		if i < large {
			im = harness.Image{Size: loadLarge, Hole: 0.985, Text: 0.005, Area: 256 << 10, Seed: uint64(i) + 1}
		}
		im.Write(t, filepath.Join(from, name))
		target := filepath.Join(to, name)
		switch {
		case i >= loadDisks-loops:
			dev := harness.Loop(t, im.Size)
			im.Write(t, dev.Path)
			harness.Gather(t, dev.Path, 0.02, uint64(i))
			if err := os.Symlink(dev.Path, target); err != nil {
				t.Fatal(err)
			}
		case i%2 == 0:
			im.Write(t, target)
			harness.Gather(t, target, 0.02, uint64(i))
		}
	}
	return names
}

// watch looks at a copy until it ends.
func (l *line) watch(t *testing.T, d *daemon) (peak loadPeak) {
	t.Helper()
	type state struct {
		bytes float64
		since time.Time
	}
	moving, moved := map[string]state{}, time.Now()
	for {
		stats, err := d.call("core/stats", nil)
		if err != nil { // it has ended, or is about to
			return peak
		}
		now, seen := time.Now(), map[string]bool{}
		all, _ := stats["transferring"].([]any)
		for _, one := range all {
			fields, _ := one.(map[string]any)
			name, _ := fields["name"].(string)
			bytes, _ := fields["bytes"].(float64)
			seen[name] = true
			if s, ok := moving[name]; !ok || s.bytes != bytes {
				moving[name], moved = state{bytes, now}, now
			}
		}
		for name, s := range moving {
			if !seen[name] {
				delete(moving, name)
			} else if stall := moved.Sub(s.since); stall > peak.stall {
				peak.stall, peak.staller = stall, name
			}
		}
		helpers, total := 0, int64(0)
		for pid, args := range l.server.Sessions() {
			if strings.Contains(args[0], "blockdev-helper") {
				helpers++
				peak.helper = max(peak.helper, memory(pid, "VmHWM"))
				total += memory(pid, "VmRSS")
			}
		}
		peak.helpersAtOnce, peak.helpers = max(peak.helpersAtOnce, helpers), max(peak.helpers, total)
		peak.client = max(peak.client, memory(d.cmd.Process.Pid, "VmHWM"))
		time.Sleep(100 * time.Millisecond)
	}
}

// sessionLine is what sshd says of the beginning and the end of a session.
var sessionLine = regexp.MustCompile(`(Starting|Close) session: .* port (\d+) id \d+`)

// sessionsOf reads from the log of sshd how many connections had sessions, and how many one had at once at most.
func sessionsOf(log string) (connections, most int) {
	now := map[string]int{}
	for _, m := range sessionLine.FindAllStringSubmatch(log, -1) {
		if m[1] == "Starting" {
			now[m[2]]++
		} else {
			now[m[2]]--
		}
		most = max(most, now[m[2]])
	}
	return len(now), most
}
