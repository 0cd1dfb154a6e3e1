//go:build linux

// Package restart has a host restarted in the middle of copies to and from it: a virtual machine with OpenSSH, whose
// disks forget what was not flushed.
package restart

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/rclone-blockdev/rclone-blockdev/backend/blockdev" // runs here: its changes make the results stale
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/vm"
)

const (
	stripe = 256 * mib // of a copy
	large  = stripe + tail
	tail   = 96 * mib // has most of the data
	small  = 80 * mib // three pieces of a stream
)

// write makes an image of which that many bytes are data, about.
func write(t *testing.T, path string, size, data int64, seed uint64) {
	t.Helper()
	harness.Image{Size: size, Hole: 1 - float64(data)/float64(size), Text: 0.01, Area: 128 << 10, Seed: seed}.Write(t, path)
}

// writeLarge makes an image of two stripes, of which the second takes long enough to be interrupted: writing begins
// after 8 MiB, and a sync comes at the end.
func writeLarge(t *testing.T, path string, seed uint64) {
	t.Helper()
	write(t, path, large, 6*mib, seed)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	random, run := rand.NewChaCha8([32]byte{byte(seed)}), make([]byte, 64<<10)
	for at := int64(stripe); at < large; at += 4 * int64(len(run)) {
		_, _ = random.Read(run) // never fails
		if _, err := f.WriteAt(run, at); err != nil {
			t.Fatal(err)
		}
	}
}

// disk makes a disk of a file of that size, which make may fill.
func disk(t *testing.T, name string, size int64, fill ...func(path string)) (path string, d *vm.Disk) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	for _, fill := range fill {
		fill(path)
	}
	d, err := vm.OpenDisk(path, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return path, d
}

// format makes a file system in a file.
func format(t *testing.T, path string) {
	t.Helper()
	mkfs, err := require.Program("mkfs.ext4")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, "-q", "-F", path).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
}

// compare compares files as cmp does. That of a disk has what is durable.
func compare(t *testing.T, a, b string) {
	t.Helper()
	if out, err := exec.Command("cmp", a, b).CombinedOutput(); err != nil {
		t.Errorf("cmp: %v: %s", err, out)
	}
}

// TestRestart restarts a host in the middle of copies to and from it. Each is one command, that goes on when the host
// is there again.
func TestRestart(t *testing.T) {
	require.Need(t, require.VM, require.Sshd, require.Busybox, require.Mkfs)
	image, stream := filepath.Join(t.TempDir(), "image"), filepath.Join(t.TempDir(), "stream")
	writeLarge(t, image, 1)
	write(t, stream, small, 45*mib, 2)
	pushed, push := disk(t, "push", large)
	source, pull := disk(t, "pull", large, func(path string) { writeLarge(t, path, 3) })
	streamed, raw := disk(t, "stream", small)
	_, fs := disk(t, "fs", 512*mib, func(path string) { format(t, path) })
	m := boot(t, "/dev/vdd", push, pull, raw, fs)
	pulled := filepath.Join(t.TempDir(), "pulled")
	for _, c := range []struct {
		name, fault string
		long        bool // takes part with -long only: each has a boot or two, which are minutes on a busy machine
		do          func(t *testing.T) (shows string)
	}{
		{"Push", "restart-push", false, func(t *testing.T) string { return m.push(t, image, "/dev/vda", pushed, push) }},
		{"Pull", "restart-pull", true, func(t *testing.T) string { return m.pull(t, "/dev/vdb", source, pulled, pull) }},
		{"Stream", "restart-stream", true, func(t *testing.T) string { return m.stream(t, stream, "/dev/vdc", streamed, raw) }},
		{"Image", "restart-image", true, func(t *testing.T) string { return m.image(t, stream, fs) }},
	} {
		if c.long && !require.Long() {
			continue
		}
		ok := t.Run(c.name, func(t *testing.T) {
			m.t = t
			start, id := time.Now(), m.bootID()
			shows := c.do(t)
			if m.bootID() == id {
				t.Error("it was not restarted")
			}
			t.Logf("%v, %s", time.Since(start).Round(time.Second), shows)
			harness.Tried(t, c.fault, 1, shows)
		})
		m.t = t
		if !ok {
			return
		}
	}
	m.Stop()
	compare(t, image, pushed)
	if require.Long() {
		compare(t, stream, streamed)
		compare(t, source, pulled)
	}
}

// push cuts the power when one stripe is durable and a part of the next is not.
func (m *machine) push(t *testing.T, from, to, stored string, d *vm.Disk) string {
	c := m.begin(nil, "copyto", from, m.there(to))
	c.until("a stripe was durable, and some of the next written", func() bool {
		n := d.Counts()
		return n.Flushes > 0 && n.Volatile > 4*mib
	})
	c.restart(m.PowerCut)
	read, before := d.Read(stripe), d.Counts()
	c.succeed()
	compare(t, from, stored)
	after := d.Counts()
	switch again := d.Read(stripe) - read; {
	case before.Lost == 0:
		t.Error("nothing was lost")
	case after.Written-before.Written < before.Lost:
		t.Errorf("%d bytes were lost, and %d written afterwards", before.Lost, after.Written-before.Written)
	case again > 16*mib: // the kernel looks for partitions
		t.Errorf("%d bytes of a stripe that was durable were read again", again)
	}
	return fmt.Sprintf("%d KiB that the disk had acknowledged and not stored were lost; the stripe that was durable was not read again",
		before.Lost>>10)
}

// pull restarts the host of the source.
func (m *machine) pull(t *testing.T, from, stored, to string, d *vm.Disk) string {
	c := m.begin(nil, "copyto", m.there(from), "blockdev:localhost"+to)
	c.until("most was read", func() bool { return d.Read(large) > 280*mib })
	c.restart(m.Reset)
	c.succeed()
	compare(t, stored, to)
	return "in the second of two stripes; both are read again, since names may lead elsewhere after a restart"
}

// stream cuts the power while a stream is written that cannot be read again.
func (m *machine) stream(t *testing.T, from, to, stored string, d *vm.Disk) string {
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	c := m.begin(in, "rcat", "--size", fmt.Sprint(small), m.there(to))
	c.until("some was written", func() bool { return d.Counts().Volatile > mib })
	c.restart(m.PowerCut)
	lost := d.Counts().Lost
	c.succeed()
	compare(t, from, stored)
	if lost == 0 {
		t.Error("nothing was lost")
	}
	return fmt.Sprintf("%d KiB were lost and sent again from memory", lost>>10)
}

// image cuts the power while a new image is written, and again when the command has said that it is done.
func (m *machine) image(t *testing.T, from string, d *vm.Disk) string {
	c := m.begin(nil, "copyto", from, m.there("/mnt/new.img"))
	c.until("some was written", func() bool { return d.Counts().Volatile > mib })
	c.restart(m.PowerCut)
	c.succeed()
	if err := m.PowerCut(); err != nil {
		t.Fatal(err)
	}
	m.whole(from, "/mnt/new.img", true)
	m.alone("/mnt/new.img")
	return "and again after its end"
}

// whole fails unless there is an image on the machine and has the content of a file here. It need not be there at all
// unless must says so.
func (m *machine) whole(want, path string, must bool) (there bool) {
	m.t.Helper()
	if got := m.run("sha256sum " + path + " || true"); strings.HasPrefix(got, harness.SHA256(m.t, want)) {
		return true
	} else if must || !strings.Contains(got, "No such file") {
		m.t.Errorf("%s is not %s: %s", path, want, got)
	}
	return false
}

// alone fails when there is anything else beside an image.
func (m *machine) alone(path string) {
	m.t.Helper()
	if got := m.run("ls -A " + filepath.Dir(path) + " | grep -v lost+found"); got != filepath.Base(path) {
		m.t.Errorf("there is more beside %s: %s", path, got)
	}
}
