//go:build vm

package inside

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// One file system on two volumes: taken at one moment, the two snapshots fit together.
func TestSnapshot_Group(t *testing.T) {
	const size = 24 * mib
	group(t, 256*mib)
	a, b := logical(t, wire.SnapshotLVM, "a", size), logical(t, wire.SnapshotLVM, "b", size)
	stripes := func(name, a, b string) string {
		return dm(t, name, "0 "+sectors(2*size)+" striped 2 128 "+a+" 0 "+b+" 0")
	}
	whole := stripes("whole", a, b)
	run(t, "mkfs.ext4", "-q", "-F", "-b", "1024", whole)
	point := mount(t, whole)
	churn(t, point, 0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				_ = os.WriteFile(filepath.Join(point, fmt.Sprint("busy-", n%50)), random(40000, uint64(n)), 0o600)
			}
		}
	}()
	dir := t.TempDir()
	options := fmt.Sprintf(`,snapshot=lvm,snapshot_size=100%%,snapshot_group="%s,%s",snapshot_freeze=%s`, a, b, point)
	f, o := remote(t, options, "/dev/vg", "a")
	var images []string
	for _, name := range []string{"a", "b"} {
		o, err := f.NewObject(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := copyTo(t.Context(), t, o, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if n := len(volumes(t, "blockdev-")); name == "a" && n != 2 || name == "b" && n != 0 {
			t.Errorf("after %s there are %d snapshots", name, n)
		}
		images = append(images, harness.LoopOn(t, filepath.Join(dir, name, "copy.img")).Path)
	}
	_ = o
	close(stop)
	<-stopped
	if out, err := exec.Command("e2fsck", "-f", "-n", stripes("copy", images[0], images[1])).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// Two rounds: the first copies a snapshot while the guest runs, the second what has changed after it was stopped.
func TestSnapshot_Rounds(t *testing.T) {
	const size = 64 * mib
	group(t, 128*mib)
	volume := logical(t, wire.SnapshotLVM, "data", size)
	harness.Image{Size: size, Seed: 1}.Write(t, volume)
	run(t, "mkfs.ext4", "-q", "-F", "-E", "nodiscard", volume)
	point := t.TempDir()
	run(t, "mount", volume, point)
	dir := t.TempDir()
	_, o := remote(t, ",snapshot=lvm,snapshot_size=30%", "/dev/vg", "data")
	start := time.Now()
	if err := copyTo(t.Context(), t, o, dir); err != nil {
		t.Fatal(err)
	}
	first := time.Since(start)
	noSnapshots(t)
	if err := os.WriteFile(filepath.Join(point, "late"), random(mib, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "umount", point) // the guest is stopped: from here on it is down
	var done blockdev.Outcome
	plan := &blockdev.Plan{Done: func(o blockdev.Outcome) { done = o }}
	_, o = remote(t, "", "/dev/vg", "data")
	start = time.Now()
	if err := copyTo(blockdev.WithPlan(t.Context(), plan), t, o, dir); err != nil {
		t.Fatal(err)
	}
	second := time.Since(start)
	harness.Same(t, volume, filepath.Join(dir, "copy.img"))
	t.Logf("first round %v, second %v, in which %d KiB changed of %d", first.Round(time.Millisecond), second.Round(time.Millisecond), done.Changed>>10, int64(size)>>10)
	if done.Changed == 0 || done.Changed > size/10 {
		t.Errorf("the second round moved %d KiB", done.Changed>>10)
	}
}

// LVM freezes a file system that is right on the volume by itself. One of several volumes is refused, before LVM fails
// on it and leaves the volume half suspended.
func TestSnapshot_FrozenVolume(t *testing.T) {
	const size = 32 * mib
	group(t, 256*mib)
	a, b := logical(t, wire.SnapshotLVM, "a", size), logical(t, wire.SnapshotLVM, "b", size)
	point := mounted(t, a)
	_, _, err := surround(t, session(t), a, func(m *wire.Prepare) { m.Freeze, m.Group = []string{point}, []string{a, b} })
	refused(t, err, wire.CodeRefused, point, "leave it out")
	noSnapshots(t)
	s := session(t)
	_, owner, err := surround(t, s, a, func(m *wire.Prepare) { m.Freeze = []string{point} })
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Detach(t.Context()), conclude(t, owner)); err != nil {
		t.Error(err)
	}
	noSnapshots(t)
}
