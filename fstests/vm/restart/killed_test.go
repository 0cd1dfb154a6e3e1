//go:build linux

package restart

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// TestRestart_Killed takes away both ends of a copy at a random moment, so that nobody goes on with it.
func TestRestart_Killed(t *testing.T) {
	require.Need(t, require.VM, require.Sshd, require.Busybox, require.Mkfs)
	old, image := filepath.Join(t.TempDir(), "old"), filepath.Join(t.TempDir(), "image")
	const data = 24 * mib
	write(t, old, small, data, 4)
	write(t, image, small, data, 5)
	changed, device := disk(t, "changed", small, func(path string) { write(t, path, small, data, 4) })
	_, fs := disk(t, "fs", 512*mib, func(path string) { format(t, path) })
	m := boot(t, "/dev/vdb", device, fs)
	for _, c := range []struct {
		name, fault string
		long        bool // as in TestRestart
		do          func(t *testing.T) (early bool)
	}{
		{"Image", "restart-killed", false, func(t *testing.T) bool { return m.killed(t, image) }},
		{"Undo", "restart-undo", true, func(t *testing.T) bool { return m.undone(t, image, "/dev", "vda", old, changed) }},
	} {
		if c.long && !require.Long() {
			continue
		}
		ok := t.Run(c.name, func(t *testing.T) {
			m.t = t
			rounds, early := harness.Runs(t, 1, 10), 0
			for range rounds {
				start := time.Now()
				if c.do(t) {
					early++
				}
				t.Logf("%v", time.Since(start).Round(time.Second))
			}
			if early == 0 {
				t.Error("in no round the power was cut before the end: nothing was tested")
			}
			harness.Tried(t, c.fault, rounds, fmt.Sprintf("%d of them in the middle of a copy", early))
		})
		m.t = t
		if !ok {
			return
		}
	}
}

// cutShort cuts the power and kills c when a part of an image may have crossed. It tells whether c was not at its end.
func (m *machine) cutShort(c *command) (early bool) {
	m.t.Helper()
	at := m.relay.Total() + int64((0.1+m.random.Float64())*float64(24*mib))
	for running := true; running && m.relay.Total() < at; {
		select {
		case <-c.ended:
			running = false
			c.succeed()
		case <-time.After(time.Millisecond):
		}
	}
	m.relay.Stall(true)
	if err := m.PowerCut(); err != nil {
		m.t.Fatal(err)
	}
	c.kill()
	m.relay.Cut()
	m.relay.Stall(false)
	return c.cmd.ProcessState.ExitCode() != 0
}

// killed is a round with a new image: it never appears half, and the next command completes it.
func (m *machine) killed(t *testing.T, from string) (early bool) {
	const to = "/mnt/image"
	m.run("rm -f " + to + "; sync")
	early = m.cutShort(m.begin(nil, "copyto", from, m.there(to)))
	there := m.whole(from, to, !early)
	t.Logf("in the middle: %v; there after the boot: %v", early, there)
	m.begin(nil, "copyto", from, m.there(to)).succeed()
	m.whole(from, to, true)
	m.alone(to)
	return early
}

// undone is a round with a device: what it had can be brought back, whatever of it was overwritten.
func (m *machine) undone(t *testing.T, from, dir, name, old, stored string) (early bool) {
	m.run("mkdir -p -m 700 /mnt/undo; sync")
	before := m.run("ls /mnt/undo")
	early = m.cutShort(m.begin(nil, "copyto", "--blockdev-undo", "/mnt/undo", from, m.there(dir+"/"+name)))
	logs := m.run("ls /mnt/undo")
	t.Logf("in the middle: %v; logs: %s", early, logs)
	if before != "" {
		t.Errorf("an old log was there: %s", before)
	}
	if strings.Contains(logs, ".undo") {
		m.begin(nil, "backend", "undo", "-o", "dir=/mnt/undo", m.there(dir), name).succeed()
	}
	if m.run("sync"); !t.Failed() {
		compare(t, old, stored)
	}
	return early
}
