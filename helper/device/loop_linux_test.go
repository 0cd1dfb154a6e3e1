package device

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

const mib = 1 << 20

// run runs a program of the system and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := require.Program(name)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// image makes a sparse file of size bytes.
func image(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}

// loop attaches a file to a loop device until the test ends.
func loop(t *testing.T, file string, args ...string) string {
	t.Helper()
	require.Need(t, require.Root, require.Loop)
	dev := run(t, "losetup", append(args, "--find", "--show", file)...)
	t.Cleanup(func() { run(t, "losetup", "-d", dev) })
	return dev
}

// partition adds a partition to a disk by ioctl, as the kernel does when it
// knows the format of the table.
func partition(t *testing.T, disk string, start, size int64) string {
	t.Helper()
	run(t, "addpart", disk, "1", strconv.FormatInt(start/512, 10), strconv.FormatInt(size/512, 10))
	t.Cleanup(func() { run(t, "delpart", disk, "1") })
	return disk + "p1"
}

// mounted makes a file system on dev and mounts it until the test ends.
func mounted(t *testing.T, dev string, args ...string) (point string) {
	t.Helper()
	require.Need(t, require.Root, require.Mount, require.Mkfs)
	run(t, "mkfs.ext4", "-q", "-F", dev)
	point = t.TempDir()
	run(t, "mount", append(args, dev, point)...)
	t.Cleanup(func() { run(t, "umount", point) })
	return point
}

// damage writes to path the way a careless program does, and fails the test
// when that is not possible: then a refusal of ours would prove nothing.
func damage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("a plain open is refused already: %v", err)
	}
	defer f.Close()
	old := make([]byte, 512)
	if _, err := f.ReadAt(old, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), 0); err != nil {
		t.Fatalf("a plain write is refused already: %v", err)
	}
	if _, err := f.WriteAt(old, 0); err != nil {
		t.Fatal(err)
	}
}

// wantError checks kind and text of an error, and that it is one line that
// names path.
func wantError(t *testing.T, err, kind error, path string, words ...string) {
	t.Helper()
	var e *Error
	if !errors.Is(err, kind) || !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error that is %q", err, kind)
	}
	for _, word := range append(words, path) {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q has several lines", err)
	}
}

// sizeOf opens nothing of ours: it asks blockdev(8) or stat.
func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := f.Seek(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
