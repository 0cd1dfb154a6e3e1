package snapshot

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// mounted is a file system on a loop device until the test ends.
func mounted(t *testing.T, kind string) string {
	t.Helper()
	need := map[string]require.Thing{"ext4": require.Mkfs, "xfs": require.Xfs, "btrfs": require.Btrfs}
	require.Need(t, require.Root, require.Mount, require.Loop, need[kind])
	d := harness.Loop(t, 400<<20)
	mkfs, err := require.Program("mkfs." + kind)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, "-q", d.Path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dir := t.TempDir()
	if err := unix.Mount(d.Path, dir, kind, 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = thawPath(dir)
		err := unix.Unmount(dir, 0)
		for end := time.Now().Add(10 * time.Second); err == unix.EBUSY && time.Now().Before(end); err = unix.Unmount(dir, 0) {
			time.Sleep(50 * time.Millisecond) // a process that was killed has not ended yet
		}
		if err != nil {
			t.Error(err)
		}
	})
	return dir
}

func thawPath(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetInt(int(f.Fd()), fiThaw, 0)
}

// isFrozen tells whether the file system at dir is frozen, by trying to freeze it.
func isFrozen(t *testing.T, dir string) bool {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	switch err := unix.IoctlSetInt(int(f.Fd()), fiFreeze, 0); err {
	case unix.EBUSY:
		return true
	case nil:
		// Who thaws for a freezer that was killed may come once more, and thaw this freeze.
		if err := unix.IoctlSetInt(int(f.Fd()), fiThaw, 0); err != nil && err != unix.EINVAL {
			t.Fatal(err)
		}
		return false
	default:
		t.Fatal(err)
		return false
	}
}

func kill(t *testing.T, ids ...int) {
	t.Helper()
	if len(ids) == 0 {
		t.Fatal("there is no such process")
	}
	for _, id := range ids {
		if err := syscall.Kill(id, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
}

// Whoever is killed, and whenever, somebody thaws.
func TestFreeze_Killed(t *testing.T) {
	const limit = 7 * time.Second // also a mark to find the processes by
	dir := mounted(t, "ext4")
	for name, roles := range map[string][]string{"freezer": {roleFreezer}, "watcher": {roleWatcher}, "both": {roleFreezer, roleWatcher}} {
		t.Run(name, func(t *testing.T) {
			fz, err := freeze([]string{dir}, limit)
			if err != nil {
				t.Fatal(err)
			}
			if !isFrozen(t, dir) {
				t.Fatal("it is not frozen")
			}
			var ids []int
			for _, role := range roles {
				ids = append(ids, processes(t, role, nanoseconds(limit))...)
			}
			start := time.Now()
			kill(t, ids...)
			eventually(t, "thawed", func() bool { return !isFrozen(t, dir) })
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("thawed after %v", took)
			}
			if err := fz.thaw(); err == nil {
				t.Error("nobody says that the freeze ended early")
			}
		})
	}
}

// A freezer that is stopped, as by a debugger, does not keep a file system frozen.
func TestFreeze_Stopped(t *testing.T) {
	const limit = 2100 * time.Millisecond
	dir := mounted(t, "ext4")
	fz, err := freeze([]string{dir}, limit)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	ids := processes(t, roleFreezer, nanoseconds(limit))
	if len(ids) != 1 {
		t.Fatalf("%d freezers", len(ids))
	}
	if err := syscall.Kill(ids[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(ids[0], syscall.SIGCONT) }()
	eventually(t, "thawed", func() bool { return !isFrozen(t, dir) })
	if took := time.Since(start); took > limit+time.Second/2 {
		t.Errorf("frozen for %v", took)
	}
	if err := syscall.Kill(ids[0], syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := fz.thaw(); err == nil {
		t.Error("nobody says that the freeze ended early")
	}
}

// Files written during the freeze wait, and are there afterwards.
func TestFreeze(t *testing.T) {
	dir, second := mounted(t, "ext4"), mounted(t, "xfs")
	fz, err := freeze([]string{dir, second}, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600) }()
	select {
	case err := <-written:
		t.Errorf("written while it is frozen: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if !isFrozen(t, dir) || !isFrozen(t, second) {
		t.Error("one is not frozen")
	}
	if err := fz.thaw(); err != nil {
		t.Error(err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	if isFrozen(t, dir) || isFrozen(t, second) {
		t.Error("one is still frozen")
	}
	eventually(t, "no process is left", func() bool {
		return len(processes(t, roleFreezer, nanoseconds(10*time.Second)))+len(processes(t, roleWatcher, nanoseconds(10*time.Second))) == 0
	})
}

// The time is over before the snapshot is taken: it is not used.
func TestFreeze_Late(t *testing.T) {
	dir := mounted(t, "ext4")
	s := newStage(t)
	spec := s.copies()
	spec.Freeze, spec.FreezeTime = []string{dir}, time.Second
	take := spec.Take[0]
	spec.Take = []string{s.script("slow", "sleep 2; exec "+take)}
	s.fails(spec, device.ErrBusy, "freeze_timeout")
	if isFrozen(t, dir) {
		t.Error("still frozen")
	}
}

// Each of the three processes alone thaws when the others cannot: a stopped keeper does nothing.
func TestFreeze_KeeperKilled(t *testing.T) {
	dir := mounted(t, "ext4")
	for name, c := range map[string]struct {
		stop bool   // the keeper, while the victim is killed
		role string // of the victim
	}{"keeper": {false, roleKeeper}, "freezer": {true, roleFreezer}, "watcher": {true, roleWatcher}} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			spec := s.copies()
			spec.Freeze, spec.FreezeTime = []string{dir}, 29*time.Second
			spec.Take = []string{s.script("take", `touch `+s.dir+`/taking; while test -d /proc/$PPID && ! test -e `+s.dir+`/go; do sleep 0.1; done; echo /dev/null`)}
			acted := make(chan struct{})
			go func() {
				defer close(acted)
				defer s.write("go", "")
				eventually(t, "taking", func() bool { return exists(s.dir + "/taking") })
				if !isFrozen(t, dir) {
					t.Error("it is not frozen")
				}
				keeper := processes(t, roleKeeper, spec.Owner)
				if c.stop {
					_ = syscall.Kill(keeper[0], syscall.SIGSTOP)
					defer func() { _ = syscall.Kill(keeper[0], syscall.SIGCONT) }()
				}
				victims := keeper
				if c.role != roleKeeper {
					victims = processes(t, c.role, nanoseconds(spec.FreezeTime))
				}
				kill(t, victims...)
				eventually(t, "thawed", func() bool { return !isFrozen(t, dir) })
			}()
			if _, err := Prepare(t.Context(), spec, false, s.notice); err == nil {
				t.Error("it was prepared")
			}
			<-acted
			eventually(t, "thawed", func() bool { return !isFrozen(t, dir) })
			eventually(t, "removed", func() bool { Sweep(s.image, s.notice); return len(owners()) == 0 })
			s.nothingLeft()
		})
	}
}

// What somebody else has frozen stays so.
func TestFreeze_ByOther(t *testing.T) {
	dir := mounted(t, "ext4")
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), fiFreeze, 0); err != nil {
		t.Fatal(err)
	}
	s := newStage(t)
	spec := s.copies()
	spec.Freeze = []string{dir}
	s.fails(spec, device.ErrBusy, "somebody has frozen it already")
	if !isFrozen(t, dir) {
		t.Error("it was thawed")
	}
}

// A helper that is killed while its keeper takes the snapshot changes nothing for what is frozen, and what is taken goes.
func TestFreeze_HelperKilled(t *testing.T) {
	dir := mounted(t, "ext4")
	s := newStage(t)
	spec := s.copies()
	spec.Freeze, spec.Grace = []string{dir}, 0
	if err := os.Mkdir(os.Getenv("BLOCKDEV_STATE_DIR"), 0o700); err != nil {
		t.Fatal(err)
	}
	set, err := openSet(os.Getenv("BLOCKDEV_STATE_DIR"), spec.Owner, true)
	if err != nil {
		t.Fatal(err)
	}
	cmd := again(roleKeeper, set.dir, set.owner)
	in, err := cmd.StdinPipe()
	if err == nil {
		_, err = cmd.StdoutPipe()
	}
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = in.Write(spec.marshal(nil))
	}
	if err != nil {
		t.Fatal(err)
	}
	set.close() // nobody is there any more, neither to hear nor to need it
	_ = in.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	eventually(t, "removed", func() bool { return len(owners()) == 0 })
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if isFrozen(t, dir) {
		t.Error("still frozen")
	}
	s.nothingLeft()
	if got := s.read("hooks"); got != "before_read "+s.image+" \nafter_read "+s.image+" lost\n" {
		t.Errorf("hooks: %q", got)
	}
}
