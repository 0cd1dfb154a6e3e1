package device

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

func TestStat_Device(t *testing.T) {
	require.Need(t, require.Root, require.Loop)
	dev := loop(t, image(t, 3*mib+512), "--sector-size", "512")
	big := loop(t, image(t, mib), "--sector-size", "4096")
	disk := loop(t, image(t, 4*mib), "-P")
	part := partition(t, disk, mib, 2*mib)
	link := filepath.Join(t.TempDir(), "by-name")
	if err := os.Symlink(dev, link); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		path  string
		size  int64
		block int
	}{{dev, 3*mib + 512, 512}, {link, 3*mib + 512, 512}, {big, mib, 4096}, {disk, 4 * mib, 512}, {part, 2 * mib, 512}}
	for _, tt := range tests {
		info, err := Stat(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Name != filepath.Base(tt.path) || info.Kind != Block || info.Size != tt.size || info.BlockSize != tt.block ||
			!info.ModTime.IsZero() || info.Allocated != -1 || info.ReadOnly || !strings.HasPrefix(info.ID, "b:") {
			t.Errorf("%s: %+v", tt.path, info)
		}
		o, err := OpenRead(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		if o.Info() != info || o.Size() != tt.size {
			t.Errorf("open %s: %+v, Stat said %+v", tt.path, o.Info(), info)
		}
		o.Close()
	}
	a, _ := Stat(dev)
	b, _ := Stat(link)
	c, _ := Stat(disk)
	if a.ID != b.ID || a.ID == c.ID {
		t.Errorf("identities %q, %q, %q", a.ID, b.ID, c.ID)
	}
}

// Listing /dev wakes no disk: nothing in it is opened.
func TestList_Dev(t *testing.T) {
	require.Need(t, require.Root, require.Loop)
	dev := loop(t, image(t, mib))
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, dev, unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	opened := func() bool {
		n, _ := unix.Read(watch, make([]byte, 4096))
		return n > 0
	}
	list, err := List("/dev")
	if err != nil {
		t.Fatal(err)
	}
	if opened() {
		t.Error("List opened the device")
	}
	f, err := os.Open(dev)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if !opened() {
		t.Error("this test would not notice an open")
	}
	i := slices.IndexFunc(list, func(in Info) bool { return in.Name == filepath.Base(dev) })
	if i < 0 || list[i].Size != mib {
		t.Errorf("%s is not in the list, or not with its size", dev)
	}
	for _, in := range list {
		if in.Kind == Block && in.Size == 0 || slices.Contains([]string{"null", "core", "fd", "stdin", "loop-control"}, in.Name) {
			t.Errorf("listed: %+v", in)
		}
	}
	if !slices.IsSortedFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not sorted")
	}
}

func TestOpenRead_NotAnObject(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/dev/null", "/dev/zero", "/proc/self/status", "/proc/self/mem", "/sys/kernel/notes", fifo} {
		_, err := OpenRead(path)
		wantError(t, err, ErrNotFile, path)
		_, err = OpenWrite(path, WriteOptions{Size: 1})
		wantError(t, err, ErrNotFile, path)
	}
}

func TestOpenRead_EmptyDevice(t *testing.T) {
	require.Need(t, require.Root, require.Loop)
	dev := run(t, "losetup", "-f") // free by now; a moment is enough
	if info, err := Stat(dev); err != nil || info.Size != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	_, err := OpenRead(dev)
	wantError(t, err, ErrNotFile, dev, "no medium")
}

func TestSymlink_Rules(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	writeFile(t, at("disk.img"), pattern(100))
	for name, to := range map[string]string{"link": "disk.img", "stale": "/dev/disk/by-id/gone"} {
		if err := os.Symlink(to, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	o := create(t, at("link"), 100)
	if _, err := o.WriteAt([]byte{0}, 0); err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(at("link")); err != nil || to != "disk.img" {
		t.Errorf("the link became something else: %q, %v", to, err)
	}
	wantContent(t, at("disk.img"), append([]byte{0}, pattern(100)[1:]...))

	_, err := OpenWrite(at("stale"), WriteOptions{Size: 1})
	wantError(t, err, ErrRefused, at("stale"), "leads nowhere")
	if err := Remove(at("link")); err != nil {
		t.Fatal(err)
	}
	wantNames(t, dir, "disk.img", "stale")
}

func TestRemove_Device(t *testing.T) {
	require.Need(t, require.Root, require.Loop)
	dev := loop(t, image(t, mib))
	dir := t.TempDir()
	// A node of its own, so that the one in /dev outlives a failure of this test.
	link, node := filepath.Join(dir, "link"), filepath.Join(dir, "node")
	if err := os.Symlink(node, link); err != nil {
		t.Fatal(err)
	}
	n, _ := blockNumber(dev)
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(n.major, n.minor))); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, node} {
		wantError(t, Remove(path), ErrRefused, path, "never removed")
		if err := SetTime(path, time.Unix(1, 0)); err != nil {
			t.Errorf("set time of %s: %v", path, err)
		}
		if fi, err := os.Stat(path); err != nil || fi.ModTime().Equal(time.Unix(1, 0)) {
			t.Errorf("%s: %v, %v", path, fi, err)
		}
	}
	if err := os.Remove(node); err != nil {
		t.Errorf("the node could not have been removed anyway: %v", err)
	}
}

func TestOpenRead_Notices(t *testing.T) {
	require.Need(t, require.Root, require.Loop, require.Mount, require.Mkfs)
	notices := func(path string) string {
		t.Helper()
		o, err := OpenRead(path)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		return strings.Join(o.Notices(), "\n")
	}
	file := image(t, 32*mib)
	disk := loop(t, file, "-P")
	part := partition(t, disk, mib, 16*mib)
	quiet := loop(t, image(t, 16*mib))
	mounted(t, quiet, "-o", "ro")
	for _, path := range []string{disk, part, quiet} {
		if got := notices(path); got != "" {
			t.Errorf("%s: %q although nobody can write", path, got)
		}
	}
	point := mounted(t, part)
	for _, path := range []string{disk, part, file} {
		if got := notices(path); !strings.Contains(got, point) || !strings.Contains(got, "torn") {
			t.Errorf("%s: notices %q", path, got)
		}
	}
	o := create(t, image(t, mib), mib)
	if got := notices(o.Path()); !strings.Contains(got, "another copy is writing") {
		t.Errorf("notices %q", got)
	}
	o.Abort()
}

func TestObject_ReadError(t *testing.T) {
	require.Need(t, require.Root, require.Loop)
	file := image(t, mib)
	dev := loop(t, file)
	if err := os.WriteFile(file, pattern(mib), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := OpenRead(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	// The medium shrinks under the device, as a bad sector at half of it.
	if err := os.Truncate(file, mib/2); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, mib)
	n, err := o.ReadAt(got, 0)
	var e *Error
	if n != mib/2 || !errors.As(err, &e) || e.Kind != ErrIO || e.Offset != mib/2 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	wantError(t, err, ErrIO, dev, "at byte 524288")
	if !bytes.Equal(got[:n], pattern(mib)[:n]) {
		t.Error("what was read before the error is wrong")
	}
}

func TestObject_NoSpace(t *testing.T) {
	require.Need(t, require.Root, require.Mount)
	dir := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	o := create(t, filepath.Join(dir, "disk.img"), 4*mib)
	n, err := o.WriteAt(pattern(2*mib), 0)
	var e *Error
	if !errors.As(err, &e) || e.Kind != ErrNoSpace || e.Offset != int64(n) {
		t.Errorf("%d bytes, %v", n, err)
	}
	o.Abort()
}

// A sync is done once, and again after everything that writes.
func TestSync_WhenSomethingWasWritten(t *testing.T) {
	o, err := OpenWrite(filepath.Join(t.TempDir(), "disk.img"), WriteOptions{Size: mib})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if o.synced.Load() {
		t.Error("what was there before counts as synced")
	}
	for name, change := range map[string]func() error{
		"nothing": func() error { return nil },
		"write":   func() error { _, err := o.WriteAt([]byte("x"), 1); return err },
		"zero":    func() error { return o.Zero(0, mib) },
		"part":    func() error { return o.Zero(3, 7) },
	} {
		if err := o.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if o.synced.Load() != (name == "nothing") {
			t.Errorf("after %s: synced is %v", name, o.synced.Load())
		}
	}
}

// What a disk does not take is known soon after it was written, with the bytes, and the sync says so again.
func TestObject_LateWriteError(t *testing.T) {
	require.Need(t, require.Root, require.Loop, require.Mount)
	const size, space = 256 * mib, 16 * mib
	dir := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	file := filepath.Join(dir, "backing")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	dev := loop(t, file)
	o, err := OpenWrite(dev, WriteOptions{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	at := int64(0)
	for err == nil && at < size {
		_, err = o.WriteAt(pattern(mib), at)
		at += mib
	}
	var e *Error
	if !errors.As(err, &e) || e.Kind != ErrNoSpace && e.Kind != ErrIO || e.Offset < 0 || e.Length == 0 || e.Offset+e.Length > at {
		t.Fatalf("after %d MiB: %v", at/mib, err)
	}
	if e.Offset > space || e.Offset+e.Length < space {
		t.Errorf("%v does not name the place at %d", err, space)
	}
	if at > space+(flushLag+2)*flushEvery {
		t.Errorf("it was told only after %d MiB", at/mib)
	}
	wantError(t, err, e.Kind, dev, "bytes of", "at byte")
	if again := o.Sync(); !errors.Is(again, e.Kind) {
		t.Errorf("the sync after it: %v", again)
	}
}
