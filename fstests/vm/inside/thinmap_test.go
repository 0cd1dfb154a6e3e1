//go:build vm

package inside

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// The volumes here are larger than their pools, and have little data.
const (
	thinSize  = 64 * mib
	thinChunk = 64 << 10
)

// areas are where these volumes have data, in ranges of a MiB.
var areas = []int64{0, 20 * mib, 60*mib + 3*thinChunk}

// thinVolume makes a volume with data in those areas.
func thinVolume(t *testing.T, p *pool, name string) string {
	t.Helper()
	return thinVolumeOf(t, p, name, thinSize)
}

func thinVolumeOf(t *testing.T, p *pool, name string, size int64) string {
	t.Helper()
	path := p.volume(t, name, size)
	for i, at := range areas {
		put(t, path, at, mib, byte(i+1))
	}
	return path
}

// put fills n bytes of a file, durably.
func put(t *testing.T, path string, off, n int64, value byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(strings.Repeat(string(rune(value)), int(n))), off); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// sparse makes a file of that size without data.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sparse.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

// read is the number of bytes of a device that fn reads from it, none of them cached before.
func read(t *testing.T, dev string, fn func()) int64 {
	t.Helper()
	run(t, "blockdev", "--flushbufs", dev)
	before := counted(t, dev)
	fn()
	return counted(t, dev).since(before).read * 512
}

// skipped checks that little more was read than the data, which the kernel reads ahead of, or that all was.
func skipped(t *testing.T, what string, got int64, want bool) {
	t.Helper()
	if want != (got <= thinSize/4) || !want && got < thinSize/10*9 {
		t.Errorf("%s: %d KiB read, skipped should be %v", what, got>>10, want)
	}
}

// copied copies a volume to a new file, checks it, and returns how many bytes of the volume were read.
func copied(t *testing.T, src string) int64 {
	t.Helper()
	dst := sparse(t, thinSize)
	n := read(t, src, func() {
		if err := copyOnce(t, src, dst, thinSize); err != nil {
			t.Fatal(err)
		}
	})
	run(t, "blockdev", "--flushbufs", src)
	harness.Same(t, src, dst)
	return n
}

// held is the reserved snapshot of a pool's metadata, "-" for none.
func (p *pool) held(t *testing.T) string {
	t.Helper()
	return strings.Fields(run(t, "dmsetup", "status", p.path))[6]
}

// Where a thin volume has no space it is not read, whatever is asked of it, and no snapshot stays behind.
func TestThinMap_Source(t *testing.T) {
	require.Need(t, require.Thin)
	p := newPool(t, thinChunk)
	src := thinVolume(t, p, "source")
	skipped(t, "copy", copied(t, src), true)
	skipped(t, "hash", read(t, src, func() {
		s, err := opened(t, src, -1, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Hash(t.Context(), func(int64) {}); err != nil {
			t.Fatal(err)
		}
	}), true)
	skipped(t, "root", read(t, src, func() {
		s, err := opened(t, src, -1, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Root(t.Context(), block.Range{Length: thinSize, BlockSize: block.DefaultSize}, func(int64) {}); err != nil {
			t.Fatal(err)
		}
	}), true)
	const large = 1 << 30 // what is read by parts is not worth it
	big := thinVolumeOf(t, p, "big", large)
	skipped(t, "reading", read(t, big, func() {
		s := session(t)
		r, err := s.OpenReader(t.Context(), big, 0, large)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		buf := make([]byte, mib)
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf); n != large || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}), true)
	if held := p.held(t); held != "-" {
		t.Errorf("snapshot %s of the metadata is left", held)
	}
}

// Data of a snapshot is shared with its origin, and is its own.
func TestThinMap_SourceSnapshot(t *testing.T) {
	require.Need(t, require.Thin)
	p := newPool(t, thinChunk)
	origin := thinVolume(t, p, "origin")
	p.snapshot(t, origin)
	put(t, origin, 40*mib, mib, 9)
	snap := dm(t, "snap", "0 "+sectors(thinSize)+" thin "+p.path+" 1")
	skipped(t, "snapshot", copied(t, snap), true)
	skipped(t, "origin", copied(t, origin), true)
}

// What is only in memory yet, and what is written later, is not taken for a hole.
func TestThinMap_Written(t *testing.T) {
	require.Need(t, require.Thin)
	for _, durably := range []bool{true, false} {
		t.Run(fmt.Sprint("durably ", durably), func(t *testing.T) { thinMapWritten(t, durably) })
	}
}

// thinMapWritten writes early in memory, and late durably or not.
func thinMapWritten(t *testing.T, durably bool) {
	src := thinVolume(t, newPool(t, thinChunk), "source")
	f, err := os.OpenFile(src, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const early, late = 30 * mib, 45 * mib
	if _, err := f.WriteAt([]byte("early"), early); err != nil { // and keep it in memory
		t.Fatal(err)
	}
	o, err := device.OpenRead(src)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if notice := o.FindHoles(t.Context(), 0, thinSize); notice != "" {
		t.Error(notice)
	}
	data := func(off, end int64) (int64, int64) {
		t.Helper()
		start, stop, err := o.Data(off, end)
		if err != nil {
			t.Fatal(err)
		}
		return start, stop
	}
	if start, _ := data(mib, 20*mib+1); start != 20*mib {
		t.Errorf("data begins at %d", start)
	}
	if start, stop := data(early-mib, late); start != early || stop != early+thinChunk {
		t.Errorf("what was in memory: %d to %d", start, stop)
	}
	if start, stop := data(late, late+mib); start != stop {
		t.Errorf("a hole: %d to %d", start, stop)
	}
	if _, err := f.WriteAt([]byte("late"), late); err != nil {
		t.Fatal(err)
	}
	if durably {
		put(t, src, late, 5, 'x')
	}
	if start, stop := data(late-mib, late+mib); start != late-mib || stop != late+mib {
		t.Errorf("what was written later: %d to %d", start, stop)
	}
	o.FindHoles(t.Context(), 0, thinSize)
	if start, stop := data(0, thinSize); start != 0 || stop != thinSize {
		t.Errorf("the volume is in use: %d to %d", start, stop)
	}
}

// A volume over another device shows that one where it has no space.
func TestThinMap_ExternalOrigin(t *testing.T) {
	require.Need(t, require.Thin)
	p := newPool(t, thinChunk)
	file := sparse(t, thinSize)
	put(t, file, 50*mib, mib, 1)
	origin := harness.Loop(t, thinSize)
	run(t, "dd", "if="+file, "of="+origin.Path, "bs=1M", "conv=sparse,notrunc")
	run(t, "dmsetup", "message", p.path, "0", "create_thin 0")
	src := dm(t, "source", "0 "+sectors(thinSize)+" thin "+p.path+" 0 "+origin.Path)
	put(t, src, 55*mib, mib, 2)
	skipped(t, "copy", copied(t, src), false)
}

// A snapshot of somebody else is left alone, and all is read; so it is of a pool that may not be changed.
func TestThinMap_NotMine(t *testing.T) {
	require.Need(t, require.Thin)
	p := newPool(t, thinChunk)
	src := thinVolume(t, p, "source")
	run(t, "dmsetup", "message", p.path, "0", "reserve_metadata_snap")
	held := p.held(t)
	o, err := device.OpenRead(src)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if notice := o.FindHoles(t.Context(), 0, thinSize); !strings.Contains(notice, "dmsetup message pool 0 release_metadata_snap") {
		t.Errorf("notice %q", notice)
	}
	skipped(t, "reserved by another", copied(t, src), false)
	if now := p.held(t); now != held || held == "-" {
		t.Errorf("snapshot %s became %s", held, now)
	}
	run(t, "dmsetup", "message", p.path, "0", "release_metadata_snap")
	skipped(t, "released", copied(t, src), true)
	if now := p.held(t); now != "-" {
		t.Errorf("snapshot %s is left", now)
	}
}

func TestThinMap_ReadOnlyPool(t *testing.T) {
	require.Need(t, require.Thin)
	p := newPool(t, thinChunk)
	src := thinVolume(t, p, "source")
	table := run(t, "dmsetup", "table", p.path)
	run(t, "dmsetup", "suspend", src)
	reload(t, p.path, strings.TrimSuffix(table, "0")+"1 read_only")
	run(t, "dmsetup", "resume", src)
	skipped(t, "copy", copied(t, src), false)
}

// stopAt replaces thin_dump by one that only says that it runs, and then by the real one again.
func stopAt(t *testing.T) (started func() bool, restore func()) {
	t.Helper()
	path, err := require.Program("thin_dump")
	if err != nil {
		t.Fatal(err)
	}
	pid := filepath.Join(t.TempDir(), "pid")
	if err := os.Rename(path, path+".real"); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho $$ > " + pid + "\nwhile :; do :; done\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return func() bool { return exists(pid) }, func() {
		if text, err := os.ReadFile(pid); err == nil {
			if p, err := os.FindProcess(int(number(t, strings.TrimSpace(string(text))))); err == nil {
				_ = p.Kill()
			}
		}
		if err := os.Rename(path+".real", path); err != nil {
			t.Fatal(err)
		}
	}
}

const lookVariable = "BLOCKDEV_TEST_LOOK"

// TestLook is a helper that is killed while it looks for holes.
func TestLook(t *testing.T) {
	path := os.Getenv(lookVariable)
	if path == "" {
		return
	}
	o, err := device.OpenRead(path)
	if err != nil {
		t.Fatal(err)
	}
	o.FindHoles(t.Context(), 0, thinSize)
}

// What a killed helper has reserved is released by the next one, and only that.
func TestThinMap_Killed(t *testing.T) {
	require.Need(t, require.Thin)
	harness.Tried(t, "thin-map-killed", 1)
	p := newPool(t, thinChunk)
	src := thinVolume(t, p, "source")
	started, restore := stopAt(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestLook$")
	cmd.Env = append(os.Environ(), lookVariable+"="+src)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if started() {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	restore()
	if p.held(t) == "-" {
		t.Fatal("killed, and nothing is reserved")
	}
	markers, _ := filepath.Glob("/run/blockdev-helper/pool-*")
	if text := run(t, "sh", append([]string{"-c", `for f do while read -r l; do echo "$l"; done <$f; done`, "sh"}, markers...)...); !strings.Contains(text, "pool "+poolUUID+" ") {
		t.Errorf("marked as %q", text)
	}
	skipped(t, "after a kill", copied(t, src), true)
	if now := p.held(t); now != "-" {
		t.Errorf("snapshot %s is left", now)
	}
}

// A copy that is given up, and a program that never ends, leave nothing behind.
func TestThinMap_Cancelled(t *testing.T) {
	require.Need(t, require.Thin)
	p := newPool(t, thinChunk)
	src := thinVolume(t, p, "source")
	_, restore := stopAt(t)
	defer restore()
	o, err := device.OpenRead(src)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if notice := o.FindHoles(ctx, 0, thinSize); notice == "" {
		t.Error("no notice")
	}
	if start, stop, err := o.Data(0, thinSize); start != 0 || stop != thinSize || err != nil {
		t.Errorf("%d, %d, %v", start, stop, err)
	}
	if now := p.held(t); now != "-" {
		t.Errorf("snapshot %s is left", now)
	}
}

// Volumes of LVM have their pool below a device of their own.
func TestThinMap_LVM(t *testing.T) {
	require.Need(t, require.LVM, require.Thin)
	dev := harness.Loop(t, poolSize).Path
	run(t, "lvm", "vgcreate", "vg", dev)
	t.Cleanup(func() { run(t, "lvm", "vgremove", "--force", "vg") })
	run(t, "lvm", "lvcreate", "--type=thin-pool", "--size=32m", "--chunksize=64k", "--zero=y", "--name=pool", "vg")
	run(t, "lvm", "lvcreate", "--virtualsize=64m", "--thinpool=pool", "--name=thin", "vg")
	src := "/dev/vg/thin"
	for i, at := range areas {
		put(t, src, at, mib, byte(i+1))
	}
	skipped(t, "copy", copied(t, src), true)
}
