//go:build vm

package inside

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// group makes a volume group of that size.
func group(t *testing.T, size int64) {
	t.Helper()
	require.Need(t, require.LVM)
	run(t, "lvm", "vgcreate", "vg", harness.Loop(t, size).Path)
	t.Cleanup(func() { run(t, "lvm", "vgremove", "--force", "vg") })
}

// logical makes a volume, of the kind that snapshots of that kind are taken of.
func logical(t *testing.T, kind wire.Snapshotting, name string, size int64) string {
	t.Helper()
	if kind == wire.SnapshotLVMThin {
		run(t, "lvm", "lvcreate", "--yes", "--type=thin-pool", "--size", fmt.Sprint(size+32*mib, "b"), "--name=pool", "vg")
		run(t, "lvm", "lvcreate", "--yes", "--virtualsize", fmt.Sprint(size, "b"), "--thinpool=pool", "--name", name, "vg")
	} else {
		run(t, "lvm", "lvcreate", "--yes", "--size", fmt.Sprint(size, "b"), "--name", name, "vg")
	}
	return "/dev/vg/" + name
}

// random are bytes that no program makes smaller.
func random(n int, seed uint64) []byte {
	b := make([]byte, n)
	source := rand.NewChaCha8([32]byte(binary.LittleEndian.AppendUint64(make([]byte, 24), seed)))
	source.Read(b)
	return b
}

// volumes are the names of all volumes whose names begin so.
func volumes(t *testing.T, prefix string) (found []string) {
	t.Helper()
	for _, name := range strings.Fields(run(t, "lvm", "lvs", "--noheadings", "-o", "lv_name", "vg")) {
		if strings.HasPrefix(name, prefix) {
			found = append(found, name)
		}
	}
	return found
}

// noSnapshots fails when one of ours is there.
func noSnapshots(t *testing.T) {
	t.Helper()
	if left := volumes(t, "blockdev-"); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// surround asks for a snapshot of path on a session.
func surround(t *testing.T, s *host.Session, path string, change func(*wire.Prepare)) (*wire.Prepared, wire.Claim, error) {
	t.Helper()
	req := &wire.Prepare{Owner: wire.Claim(random(16, uint64(time.Now().UnixNano()))), Kind: wire.SnapshotLVM, Grace: 60000, FreezeTime: 10000}
	req.Path = path
	change(req)
	got, err := s.Prepare(t.Context(), req)
	return got, req.Owner, err
}

func conclude(t *testing.T, owner wire.Claim) error {
	t.Helper()
	return session(t).Conclude(t.Context(), &wire.Conclude{Owner: owner, Wait: true})
}

// kinds of file systems: how they are made, so that their metadata is all over the device, and how they are checked.
var filesystems = map[string]struct {
	size int64
	make []string
	fix  bool     // is mounted once to replay its log
	fsck []string // fails on damage
}{
	"ext4": {32 * mib, []string{"mkfs.ext4", "-q", "-F", "-b", "1024", "-O", "^flex_bg"}, false, []string{"e2fsck", "-f", "-n"}},
	"xfs":  {64 * mib, []string{"mkfs.xfs", "-q", "-f"}, true, []string{"xfs_repair", "-n"}},
}

// smallXFS are the variables with which mkfs.xfs makes file systems as small as it once did.
var smallXFS = []string{"TEST_DIR=x", "TEST_DEV=x", "QA_CHECK_FS=x"}

// churn changes a file system in every part: files and directories go, and others come.
func churn(t *testing.T, point string, round int) {
	t.Helper()
	old, err := filepath.Glob(filepath.Join(point, "dir-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	for d := range 24 {
		dir := filepath.Join(point, fmt.Sprintf("dir-%d-%d", round, d))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for f := range 12 {
			data := random(4096*(1+(d+f)%20), uint64(round*1000+d*20+f))
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file-", f)), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	writeBack(t, point)
}

// writeBack has a file system write all it knows to its place, as it does after a while by itself: until then its log,
// which lies in one place, would mend a copy that is torn.
func writeBack(t *testing.T, point string) {
	t.Helper()
	f, err := os.Open(point)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, request := range []uint{0xc0045877, 0xc0045878} { // FIFREEZE, FITHAW
		if err := unix.IoctlSetInt(int(f.Fd()), request, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// halves copies the first half of what from has open, calls between, and copies the second half.
func halves(t *testing.T, from *host.Session, dst string, size int64, between func()) {
	t.Helper()
	to, err := opened(t, dst, size, true)
	if err != nil {
		t.Fatal(err)
	}
	half := size / 2
	for _, r := range []block.Range{{Length: half, BlockSize: block.DefaultSize}, {Offset: half, Length: size - half, BlockSize: block.DefaultSize}} {
		if _, err := host.Join(t.Context(), from, to, r, func(int64) {}); err != nil {
			t.Fatal(err)
		}
		if r.Offset == 0 {
			between()
		}
	}
	if err := to.Close(t.Context(), true, 1); err != nil {
		t.Fatal(err)
	}
}

// found is what the checker of a file system finds in an image, empty for nothing.
func found(t *testing.T, kind, image string) string {
	t.Helper()
	fsys := filesystems[kind]
	target := harness.LoopOn(t, image)
	if fsys.fix {
		point := t.TempDir()
		if out, err := exec.Command("mount", "-o", "nouuid", target.Path, point).CombinedOutput(); err != nil {
			return "mount: " + string(out)
		}
		run(t, "umount", point)
	}
	out, err := exec.Command(fsys.fsck[0], append(fsys.fsck[1:], target.Path)...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	return ""
}

// A file system that is written while it is copied is whole in the copy of a snapshot, and is not without one.
func TestSnapshot_Consistent(t *testing.T) {
	for name, kind := range map[string]wire.Snapshotting{"lvm": wire.SnapshotLVM, "lvm-thin": wire.SnapshotLVMThin} {
		for fsName, fsys := range filesystems {
			t.Run(name+"/"+fsName, func(t *testing.T) {
				harness.Tried(t, "snapshot-written", 1)
				group(t, 2*fsys.size+96*mib)
				volume := logical(t, kind, "data", fsys.size)
				run(t, "env", append(append(smallXFS, fsys.make...), volume)...)
				point := mount(t, volume)
				churn(t, point, 0)
				round := 0
				change := func() { round++; churn(t, point, round) }

				torn := filepath.Join(t.TempDir(), "torn")
				from, err := opened(t, volume, -1, false)
				if err != nil {
					t.Fatal(err)
				}
				halves(t, from, torn, fsys.size, change)
				if harm := found(t, fsName, torn); harm == "" {
					t.Error("the copy without a snapshot is whole: this test shows nothing")
				} else {
					t.Logf("without a snapshot: %.300s", harm)
				}

				whole := filepath.Join(t.TempDir(), "whole")
				s := session(t)
				got, owner, err := surround(t, s, volume, func(m *wire.Prepare) { m.Kind, m.Space = kind, "50%" })
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("reading %s", got.Device)
				if _, err := s.OpenRead(t.Context(), volume); err != nil {
					t.Fatal(err)
				}
				halves(t, s, whole, fsys.size, change)
				if err := s.Close(t.Context(), false, 0); err != nil {
					t.Error(err)
				}
				if err := conclude(t, owner); err != nil {
					t.Error(err)
				}
				if harm := found(t, fsName, whole); harm != "" {
					t.Errorf("with a snapshot: %s", harm)
				}
			})
		}
	}
}

// remote is an object on this machine with options.
func remote(t *testing.T, options, dir, name string) (fs.Fs, fs.Object) {
	t.Helper()
	f, err := fs.NewFs(t.Context(), "blockdev"+options+":localhost"+dir)
	if err != nil {
		t.Fatal(err)
	}
	o, err := f.NewObject(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Features().Shutdown(context.Background()) })
	return f, o
}

// copyTo copies an object into a directory of this machine.
func copyTo(ctx context.Context, t *testing.T, o fs.Object, dir string) error {
	t.Helper()
	f, err := fs.NewFs(ctx, "blockdev:localhost"+dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Features().Copy(ctx, o, "copy.img")
	return err
}

// overwrite writes the beginning of a device.
func overwrite(t *testing.T, dev string, n int) {
	t.Helper()
	f, err := os.OpenFile(dev, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(random(n, 7)); err != nil {
		t.Fatal(err)
	}
}

// A snapshot that overflows while it is read fails the copy with that cause, and is removed.
func TestSnapshot_Overflow(t *testing.T) {
	harness.Tried(t, "snapshot-overflow", 2)
	const size = 32 * mib
	group(t, 96*mib)
	volume := logical(t, wire.SnapshotLVM, "data", size)
	harness.Image{Size: size, Seed: 1}.Write(t, volume)
	_, o := remote(t, ",snapshot=lvm,snapshot_size=8Mi", "/dev/vg", "data")
	overflow := &blockdev.Plan{Ready: func(blockdev.Ends) error {
		overwrite(t, volume, 16*mib)
		run(t, "sync")
		return nil
	}}
	err := copyTo(blockdev.WithPlan(t.Context(), overflow), t, o, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "overflowed") || !strings.Contains(err.Error(), "snapshot_size") {
		t.Errorf("got %v", err)
	}
	if err := o.Fs().(fs.Fs).Features().Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	noSnapshots(t)

	// Read to the end before it overflowed, the copy is void all the same when that is before the target is complete.
	s := session(t)
	_, owner, err := surround(t, s, volume, func(m *wire.Prepare) { m.Space = fmt.Sprint(8 * mib) })
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, volume, 16*mib)
	run(t, "sync")
	req := &wire.Prepare{Owner: owner, Kind: wire.SnapshotLVM, Follow: true}
	req.Path = volume
	_, err = session(t).Prepare(t.Context(), req)
	refused(t, err, wire.CodeNoSpace, volume, "overflowed")
	if err := conclude(t, owner); err != nil {
		t.Error(err)
	}
	noSnapshots(t)
}

// What does not work is one line, and leaves nothing.
func TestSnapshot_Refused(t *testing.T) {
	group(t, 128*mib)
	volume := logical(t, wire.SnapshotLVM, "data", 64*mib)
	for name, c := range map[string]struct {
		change func(*wire.Prepare)
		code   wire.Code
		words  []string
	}{
		"space":    {func(m *wire.Prepare) { m.Space = fmt.Sprint(256 * mib) }, wire.CodeNoSpace, []string{"insufficient free space"}},
		"percent":  {func(m *wire.Prepare) { m.Space = "100%" }, wire.CodeNoSpace, []string{"insufficient free space"}},
		"not thin": {func(m *wire.Prepare) { m.Kind = wire.SnapshotLVMThin }, wire.CodeRefused, []string{"no thin volume", "snapshot = lvm"}},
		"no mount": {func(m *wire.Prepare) { m.Freeze = []string{"/none"} }, wire.CodeNotFound, []string{"/none", "no such mountpoint"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := surround(t, session(t), volume, c.change)
			refused(t, err, c.code, c.words...)
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q has several lines", err)
			}
			noSnapshots(t)
		})
	}
	t.Run("no volume", func(t *testing.T) {
		d := harness.Loop(t, mib)
		_, _, err := surround(t, session(t), d.Path, func(*wire.Prepare) {})
		refused(t, err, wire.CodeRefused, d.Path, "is not a logical volume")
	})
}

// killKeepers kills all processes that keep snapshots.
func killKeepers(t *testing.T) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for _, path := range all {
		if text, _ := os.ReadFile(path); strings.HasPrefix(string(text), "blockdev-snapshot\x00keep\x00") {
			run(t, "sh", "-c", "kill -9 "+filepath.Base(filepath.Dir(path)))
			killed++
		}
	}
	if killed != 1 {
		t.Fatalf("%d keepers", killed)
	}
	time.Sleep(time.Second)
}

// Snapshots go when their client is gone, or their keeper, and others stay.
func TestSnapshot_Removed(t *testing.T) {
	harness.Tried(t, "snapshot-killed", 2)
	group(t, 256*mib)
	volume := logical(t, wire.SnapshotLVM, "data", 32*mib)
	t.Run("client gone", func(t *testing.T) {
		s := session(t)
		if _, _, err := surround(t, s, volume, func(m *wire.Prepare) { m.Grace = 0 }); err != nil {
			t.Fatal(err)
		}
		if len(volumes(t, "blockdev-data-")) != 1 {
			t.Error("there is no snapshot")
		}
		for _, dir := range []string{"/dev/vg", "/dev/mapper"} {
			listed, err := s.List(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range listed {
				if strings.Contains(e.Name, "blockdev") {
					t.Errorf("%s is listed as a disk", e.Name)
				}
			}
		}
		s.Release()
		host.CloseIdle()
		for end := time.Now().Add(time.Minute); len(volumes(t, "blockdev-")) > 0 && time.Now().Before(end); {
			time.Sleep(time.Second)
		}
		noSnapshots(t)
	})
	t.Run("keeper killed", func(t *testing.T) {
		s := session(t)
		if _, _, err := surround(t, s, volume, func(*wire.Prepare) {}); err != nil {
			t.Fatal(err)
		}
		killKeepers(t)
		s.Release()
		host.CloseIdle()
		if len(volumes(t, "blockdev-data-")) != 1 {
			t.Error("there is no snapshot")
		}
		if _, err := opened(t, volume, -1, false); err != nil {
			t.Fatal(err)
		}
		noSnapshots(t)
	})
	t.Run("strays", func(t *testing.T) {
		name := func(n int) string { return fmt.Sprintf("blockdev-data-20250101T00000%dZ-0123456%d", n, n) }
		for n, tags := range [][]string{{"--addtag=blockdev", "--addtag=blockdev.boot=before"}, nil, {"--addtag=other"}} {
			run(t, "lvm", append([]string{"lvcreate", "--snapshot", "--size=4m", "--name", name(n), "vg/data"}, tags...)...)
		}
		s := session(t)
		_, owner, err := surround(t, s, volume, func(*wire.Prepare) {})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Detach(t.Context()), conclude(t, owner)); err != nil {
			t.Error(err)
		}
		if left := strings.Join(volumes(t, "blockdev-"), " "); left != name(1)+" "+name(2) {
			t.Errorf("there are %s", left)
		}
	})
}
