package witness_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/witness"
)

const size = 16 << 20

var claim = device.Token{7}

// open opens a target as the leader of a transfer.
func open(t *testing.T, path string) *device.Object {
	t.Helper()
	o, err := device.OpenWrite(path, device.WriteOptions{Size: size, Lead: true, Claim: claim})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

// run is one run: what it found, and its name when a proof was kept.
func run(t *testing.T, path string, data []byte) (*witness.Found, witness.Run) {
	t.Helper()
	o, name := open(t, path), witness.Run{}
	rand.Read(name[:])
	w, found, err := witness.Begin(o, name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.WriteAt(data, 5<<20); err != nil {
		t.Fatal(err)
	}
	if err := w.End(o); err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	return found, name
}

// disk is a target with all that leads to it.
type disk struct {
	path    string
	part    string // its partition
	backing string // the file behind it
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// poke writes one byte to a file or device with these flags, and gives what was written to.
func poke(t *testing.T, path string, at int64, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	page := aligned()
	rand.Read(page)
	if _, err := f.WriteAt(page, at); err != nil {
		t.Fatal(err)
	}
	return f
}

// aligned is a page that can be written past the cache.
func aligned() []byte {
	b := make([]byte, 8192)
	return b[4096-uintptr(unsafe.Pointer(&b[0]))%4096:][:4096]
}

// discard makes a range of a device zero without writing it.
func discard(t *testing.T, path string, request uintptr) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	span := [2]uint64{1 << 20, 1 << 20}
	if _, _, no := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&span))); no != 0 {
		t.Fatal(no)
	}
}

// mapped writes to a page of a file by a mapping, which is kept when it is not to be seen by a close.
func mapped(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	rand.Read(m[:8])
	return m
}

// way is one way to write behind the back of a run. What it gives is still open when the next run looks.
type way struct {
	write func(t *testing.T, d disk) *os.File
	seen  string // by what the next run sees it
}

// The facts that differ afterwards, the first of which is told.
const (
	counters = "what was written to loop"
	stamp    = "the time of "
)

// closed is a write that has ended.
func closed(f *os.File) *os.File {
	f.Close()
	return nil
}

var deviceWays = map[string]way{
	"buffered":            {func(t *testing.T, d disk) *os.File { return closed(poke(t, d.path, 1<<20, 0)) }, counters},
	"dirty in the cache":  {func(t *testing.T, d disk) *os.File { return poke(t, d.path, 1<<20, 0) }, counters},
	"direct":              {func(t *testing.T, d disk) *os.File { return closed(poke(t, d.path, 1<<20, unix.O_DIRECT)) }, counters},
	"mapped":              {func(t *testing.T, d disk) *os.File { _ = unix.Munmap(mapped(t, d.path)); return nil }, counters},
	"the file behind it":  {func(t *testing.T, d disk) *os.File { return closed(poke(t, d.backing, 1<<20, 0)) }, stamp},
	"that file, open":     {func(t *testing.T, d disk) *os.File { return poke(t, d.backing, 1<<20, 0) }, stamp},
	"that file, direct":   {func(t *testing.T, d disk) *os.File { return closed(poke(t, d.backing, 1<<20, unix.O_DIRECT)) }, stamp},
	"that file, mapped":   {func(t *testing.T, d disk) *os.File { _ = unix.Munmap(mapped(t, d.backing)); return nil }, stamp},
	"discard":             {func(t *testing.T, d disk) *os.File { discard(t, d.path, unix.BLKDISCARD); return nil }, counters},
	"zeroing":             {func(t *testing.T, d disk) *os.File { discard(t, d.path, unix.BLKZEROOUT); return nil }, counters},
	"a partition":         {func(t *testing.T, d disk) *os.File { return closed(poke(t, d.part, 4096, unix.O_DIRECT)) }, counters},
	"a partition, dirty":  {func(t *testing.T, d disk) *os.File { return poke(t, d.part, 4096, 0) }, counters},
	"a file system on it": {mountAndWrite, counters},
	"another disk of that name": {func(t *testing.T, d disk) *os.File {
		command(t, "delpart", d.path, "1")
		command(t, "losetup", "--detach", d.path)
		command(t, "losetup", "--sizelimit", fmt.Sprint(size), d.path, d.backing)
		command(t, "addpart", d.path, "1", "2048", fmt.Sprint(size/512-2048))
		return nil
	}, "the disk loop"},
	"another part of the file": {shift, "the part behind loop"},
	"a loop device over it": {func(t *testing.T, d disk) *os.File {
		over := harness.LoopOn(t, d.path)
		poke(t, over.Path, 1<<20, 0).Close()
		over.Detach(t)
		return nil
	}, counters},
}

// shift has a loop device begin elsewhere in its file.
func shift(t *testing.T, d disk) *os.File {
	f, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err == nil {
		info.Offset = 4096
		err = unix.IoctlLoopSetStatus64(int(f.Fd()), info)
	}
	if err != nil {
		t.Fatal(err)
	}
	return nil
}

// mountAndWrite makes a file system on the partition, mounts it, writes a file and unmounts it.
func mountAndWrite(t *testing.T, d disk) *os.File {
	command(t, "mkfs.ext4", "-q", d.part)
	dir := t.TempDir()
	command(t, "mount", d.part, dir)
	err := os.WriteFile(dir+"/file", []byte("x"), 0o600)
	command(t, "umount", dir)
	if err != nil {
		t.Fatal(err)
	}
	return nil
}

// loop makes a disk with one partition. The file behind it is a little longer.
func loop(t *testing.T) disk {
	backing := filepath.Join(t.TempDir(), "backing")
	if err := os.WriteFile(backing, make([]byte, size+4096), 0o600); err != nil {
		t.Fatal(err)
	}
	d := harness.LoopOn(t, backing, "--sizelimit", fmt.Sprint(size))
	command(t, "addpart", d.Path, "1", "2048", fmt.Sprint(size/512-2048))
	t.Cleanup(func() { command(t, "delpart", d.Path, "1") })
	return disk{path: d.Path, part: d.Path + "p1", backing: d.Backing}
}

// Who writes to a device after the end of a run is seen by the next one, whatever way it takes. Left alone, the run before
// is named, as often as one begins.
func TestDevice(t *testing.T) {
	t.Setenv("BLOCKDEV_WITNESS_DIR", t.TempDir())
	for name, write := range deviceWays {
		t.Run(name, func(t *testing.T) {
			watch(t, loop(t), write)
		})
	}
}

// Who writes to the disk of a partition writes to the partition.
func TestDevice_Partition(t *testing.T) {
	t.Setenv("BLOCKDEV_WITNESS_DIR", t.TempDir())
	backing := filepath.Join(t.TempDir(), "backing")
	if err := os.WriteFile(backing, make([]byte, size+2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	whole := harness.LoopOn(t, backing)
	part := func(start int64) { command(t, "addpart", whole.Path, "1", fmt.Sprint(start), fmt.Sprint(size/512)) }
	part(2048)
	t.Cleanup(func() { command(t, "delpart", whole.Path, "1") })
	d := disk{path: whole.Path + "p1", backing: backing}
	for name, w := range map[string]way{
		"the disk":        {func(t *testing.T, _ disk) *os.File { return closed(poke(t, whole.Path, 3<<20, unix.O_DIRECT)) }, counters},
		"the disk, dirty": {func(t *testing.T, _ disk) *os.File { return poke(t, whole.Path, 3<<20, 0) }, counters},
		"another place": {func(t *testing.T, _ disk) *os.File {
			command(t, "delpart", whole.Path, "1")
			part(2056)
			return nil
		}, ""}, // it has another number now, and so no record
	} {
		t.Run(name, func(t *testing.T) { watch(t, d, w) })
	}
}

// watch does runs, the third of which comes after somebody has written.
func watch(t *testing.T, d disk, w way) {
	t.Helper()
	_, a := run(t, d.path, []byte("one"))
	second, b := run(t, d.path, []byte("two"))
	if second.Since != a || second.Doubt != "" {
		t.Fatalf("nobody has written, and it found %+v, not %x", second, a)
	}
	time.Sleep(20 * time.Millisecond) // an image is not stamped as often as it is written
	if f := w.write(t, d); f != nil {
		defer f.Close()
	}
	third, _ := run(t, d.path, []byte("three"))
	if third.Since != (witness.Run{}) || !strings.Contains(third.Doubt, w.seen) {
		t.Errorf("somebody has written, and it found %+v, after %x", third, b)
	}
}

// fileWays are the ways to write to an image.
var fileWays = map[string]way{
	"buffered":       {func(t *testing.T, d disk) *os.File { return closed(poke(t, d.path, 1<<20, 0)) }, stamp},
	"direct":         {func(t *testing.T, d disk) *os.File { return closed(poke(t, d.path, 1<<20, unix.O_DIRECT)) }, stamp},
	"mapped":         {func(t *testing.T, d disk) *os.File { _ = unix.Munmap(mapped(t, d.path)); return nil }, stamp},
	"times set back": {setBack, stamp},
	"replaced": {func(t *testing.T, d disk) *os.File {
		command(t, "cp", "-p", d.path, d.path+".new")
		command(t, "mv", d.path+".new", d.path)
		return nil
	}, "no proof"},
	"a loop device over it": {func(t *testing.T, d disk) *os.File {
		over := harness.LoopOn(t, d.path)
		poke(t, over.Path, 1<<20, 0).Close()
		over.Detach(t)
		return nil
	}, stamp},
	"a hole": {func(t *testing.T, d disk) *os.File {
		command(t, "fallocate", "-p", "-o", "1048576", "-l", "4096", d.path)
		return nil
	}, stamp},
	"cut and made long again": {func(t *testing.T, d disk) *os.File {
		command(t, "truncate", "-s", "1M", d.path)
		command(t, "truncate", "-s", fmt.Sprint(size), d.path)
		return nil
	}, stamp},
}

// setBack writes and then gives the file the times that it had.
func setBack(t *testing.T, d disk) *os.File {
	fi, err := os.Stat(d.path)
	if err != nil {
		t.Fatal(err)
	}
	poke(t, d.path, 1<<20, 0).Close()
	command(t, "touch", "-d", fi.ModTime().Format(time.RFC3339Nano), d.path)
	return nil
}

// The same of an image file.
func TestFile(t *testing.T) {
	for name, write := range fileWays {
		t.Run(name, func(t *testing.T) {
			t.Setenv("BLOCKDEV_WITNESS_DIR", t.TempDir()) // a number that a file before had has a record
			path := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
				t.Fatal(err)
			}
			watch(t, disk{path: path}, write)
		})
	}
}

// A mapping that was there before the end of a run can be written to without the file system being told until the pages
// are written back: a file that anybody else has open has no proof.
func TestFile_Open(t *testing.T) {
	t.Setenv("BLOCKDEV_WITNESS_DIR", t.TempDir())
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	o := open(t, path)
	w, _, err := witness.Begin(o, witness.Run{1})
	if err != nil {
		t.Fatal(err)
	}
	m := mapped(t, path)
	if err := w.End(o); err == nil || !strings.Contains(err.Error(), "another program has it open") {
		t.Errorf("%v", err)
	}
	if err := unix.Munmap(m); err != nil {
		t.Fatal(err)
	}
	o.Close()
	if _, name := run(t, path, nil); name == (witness.Run{}) {
		t.Error("no proof was kept when it was closed")
	}
}

// A page of the file behind a loop device that is mapped is written to again after the end of the run.
func TestDevice_Mapped(t *testing.T) {
	t.Setenv("BLOCKDEV_WITNESS_DIR", t.TempDir())
	d := loop(t)
	m := mapped(t, d.backing)
	defer unix.Munmap(m)
	_, a := run(t, d.path, []byte("one"))
	if found, _ := run(t, d.path, nil); found.Since != a {
		t.Fatalf("%+v", found)
	}
	rand.Read(m[:8])
	if found, _ := run(t, d.path, nil); found.Since != (witness.Run{}) {
		t.Errorf("%+v", found)
	}
}
