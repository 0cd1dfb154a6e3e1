package fstests

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// line is an rclone whose only way to a host is a relay that can break.
type line struct {
	t      *testing.T
	server *harness.Server
	relay  *harness.Relay
	client *harness.Client
}

// newLine lets rclone try everything once: what survives a fault does so inside the transfer.
func newLine(t *testing.T, options ...harness.SshdOption) *line {
	t.Helper()
	require.Need(t, require.Sshd)
	l := &line{t: t, server: harness.Sshd(t, options...), client: harness.NewClient(t)}
	l.relay = harness.NewRelay(t, l.server.Addr())
	l.server.KnowPort(t, l.relay.Port())
	for name, value := range map[string]string{
		"RCLONE_RETRIES": "1", "RCLONE_LOW_LEVEL_RETRIES": "1", "RCLONE_BLOCKDEV_KEEPALIVE": "1s",
		"RCLONE_BLOCKDEV_KEY_FILE": l.server.KeyFile, "RCLONE_BLOCKDEV_KNOWN_HOSTS_FILE": l.server.KnownHosts,
		"RCLONE_BLOCKDEV_SSH_CONFIG": "none", "RCLONE_BLOCKDEV_HELPER_PATH": harness.Bin(t, "blockdev-helper"),
	} {
		l.client.Env[name] = value
	}
	return l
}

// there names a path on the host.
func (l *line) there(path string) string {
	return fmt.Sprintf("blockdev:%s@%s%s", l.server.User, l.relay.Addr(), path)
}

// trial is one copy during which the line breaks.
type trial struct {
	*line
	random         *rand.Rand
	source, target string // paths
}

// flow is a way in which data moves.
type flow struct {
	name    string
	fault   string // of harness.Faults, when the line breaks
	size    int64
	crosses int64 // how often the data crosses the line
	// copy runs the copy from source to target.
	copy func(ctx context.Context, x *trial) harness.Result
}

var flows = []flow{
	{"Push", "cut-push", 600 << 20, 1, func(ctx context.Context, x *trial) harness.Result {
		return x.run(ctx, nil, nil, "copyto", x.source, x.there(x.target))
	}},
	{"Pull", "cut-pull", 600 << 20, 1, func(ctx context.Context, x *trial) harness.Result {
		return x.run(ctx, nil, nil, "copyto", x.there(x.source), "blockdev:localhost"+x.target)
	}},
	{"HostToHost", "cut-host-to-host", 600 << 20, 2, func(ctx context.Context, x *trial) harness.Result {
		return x.run(ctx, nil, nil, "copyto", x.there(x.source), x.there(x.target))
	}},
	{"Stream", "cut-stream", 100 << 20, 1, func(ctx context.Context, x *trial) harness.Result {
		in, err := os.Open(x.source)
		if err != nil {
			x.t.Error(err)
		}
		defer in.Close()
		return x.run(ctx, in, nil, "rcat", "--size", "104857600", x.there(x.target))
	}},
	{"Read", "cut-read", 100 << 20, 1, func(ctx context.Context, x *trial) harness.Result {
		out, err := os.Create(x.target)
		if err != nil {
			x.t.Error(err)
		}
		defer out.Close()
		return x.run(ctx, nil, out, "cat", x.there(x.source))
	}},
}

// run runs rclone until ctx ends.
func (l *line) run(ctx context.Context, in io.Reader, out io.Writer, args ...string) harness.Result {
	cmd := l.client.Command(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		l.t.Errorf("cannot run %s: %v", cmd.Path, err)
		return harness.Result{Code: -1}
	}
	return harness.Result{Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

const (
	dataShare = 0.07     // of an image of 600 MiB that is no hole
	perCut    = 32 << 20 // bytes that may cross once more for each cut: what was on its way, of all streams
)

// image makes the source, and in two of three cases a target that is an older version of it. Both go when the trial
// is over.
func (x *trial) image(t *testing.T, size int64) (remove func()) {
	t.Helper()
	dir := t.TempDir()
	x.source, x.target = filepath.Join(dir, "source.img"), filepath.Join(dir, "target.img")
	im := harness.Image{Size: size, Hole: 1 - dataShare*float64(600<<20)/float64(size), Text: dataShare / 4, Area: 256 << 10, Seed: x.random.Uint64()}
	im.Write(t, x.source)
	if x.random.IntN(3) > 0 {
		im.Write(t, x.target)
		harness.Gather(t, x.target, 0.02, x.random.Uint64())
	}
	return func() { _, _ = os.Remove(x.source), os.Remove(x.target) } // what is left goes with the test
}

// moment waits until some bytes have crossed, or for some time where few do.
func (x *trial) moment(ctx context.Context) {
	at := x.relay.Total() + int64(x.random.ExpFloat64()*4*(1<<20))
	late := time.After(time.Duration(x.random.IntN(600)) * time.Millisecond)
	for x.relay.Total() < at {
		select {
		case <-late:
			return
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// login is how many bytes cross until rclone has found out what is on the host. A line that breaks before is no matter
// of transfers.
const login = 16 << 10

// begun waits until that many bytes have crossed.
func (x *trial) begun(ctx context.Context, bytes int64) {
	for x.relay.Total() < bytes && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
}

// disturb plays faults until ctx ends, and says how many.
func (x *trial) disturb(ctx context.Context) (cuts int64) {
	x.begun(ctx, login)
	faults := 1 + x.random.IntN(3)
	for range faults {
		x.moment(ctx)
		if ctx.Err() != nil {
			return cuts
		}
		cuts++
		switch x.random.IntN(6) {
		case 0:
			x.relay.Stall(true)
			x.pause(ctx, 5*time.Second)
			x.relay.Stall(false)
		case 1:
			x.relay.Refuse(true)
			x.relay.Cut()
			x.pause(ctx, 3*time.Second)
			x.relay.Refuse(false)
		case 2:
			x.relay.Trickle(64 << 10)
			x.pause(ctx, time.Second)
			x.relay.Cut()
			x.relay.Trickle(0)
		case 3:
			x.relay.Delay(time.Duration(x.random.IntN(40)) * time.Millisecond)
			fallthrough
		default:
			x.relay.Cut()
		}
	}
	return cuts
}

// pause waits for a part of limit.
func (x *trial) pause(ctx context.Context, limit time.Duration) {
	select {
	case <-time.After(time.Duration(x.random.Int64N(int64(limit)))):
	case <-ctx.Done():
	}
}

// TestCuts breaks the line at random moments of all flows. Each copy must succeed in the first run of the command,
// with little more on the wire than without faults, and be whole.
func TestCuts(t *testing.T) {
	for _, f := range flows {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel() // most of the time they wait
			l := newLine(t)
			lost, cuts := 0, int64(0)
			for i := range harness.Runs(t, 4, 40) {
				seed := uint64(i) + 1
				some, played := l.trial(t, f, seed)
				lost, cuts = lost+some, cuts+played
			}
			if lost == 0 {
				t.Error("no connection was lost in any run: nothing was tested")
			}
			harness.Tried(t, f.fault, int(cuts), fmt.Sprintf("%d copies, in which %d connections were lost", harness.Runs(t, 4, 40), lost))
		})
	}
}

// trial is one run of TestCuts. It returns how many connections were lost, by how many faults.
func (l *line) trial(t *testing.T, f flow, seed uint64) (lost int, cuts int64) {
	t.Helper()
	x := &trial{line: l, random: rand.New(rand.NewPCG(seed, uint64(len(f.name))))}
	defer x.image(t, f.size)()
	l.relay.Reset()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	quiet, calm := context.WithCancel(ctx)
	var disturber sync.WaitGroup
	disturber.Go(func() { cuts = x.disturb(quiet) })
	start := time.Now()
	r := f.copy(ctx, x)
	calm()
	disturber.Wait()
	l.relay.Delay(0)
	if r.Code != 0 {
		t.Fatalf("seed %d: rclone ended with %d: %s", seed, r.Code, r.Stderr)
	}
	harness.Same(t, x.source, x.target)
	limit := f.crosses * (60<<20 + cuts*perCut) // the data, and what SSH and the start of each connection add
	if total := l.relay.Total(); total > limit {
		t.Errorf("seed %d: %d bytes crossed with %d faults, more than %d: %s", seed, total, cuts, limit, r.Stderr)
	}
	lost = strings.Count(r.Stderr, "lost, resuming")
	if again := strings.Count(r.Stderr, "again, going on"); again != lost {
		t.Errorf("seed %d: lost %d times, back %d times: %s", seed, lost, again, r.Stderr)
	}
	t.Logf("seed %d: %d faults, %d losses, %d bytes, %v", seed, cuts, lost, l.relay.Total(), time.Since(start).Round(time.Millisecond))
	return lost, cuts
}
