package harness

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// Device is a loop device.
type Device struct {
	Path    string // such as /dev/loop3
	Backing string // the file behind it

	once sync.Once // detaches
}

// Loop makes a loop device of that many bytes, a multiple of 512, over a sparse file in the test's folder. Further
// arguments are options of losetup, such as "--read-only" or "--sector-size=4096". It needs require.Loop and
// detaches with the test.
func Loop(t testing.TB, size int64, options ...string) *Device {
	t.Helper()
	backing := filepath.Join(t.TempDir(), "backing")
	writeFile(t, backing, nil)
	if err := os.Truncate(backing, size); err != nil {
		t.Fatal(err)
	}
	return LoopOn(t, backing, options...)
}

// LoopOn makes a loop device over an existing file, whose length losetup rounds down to a multiple of 512.
func LoopOn(t testing.TB, backing string, options ...string) *Device {
	t.Helper()
	require.Need(t, require.Loop)
	d := &Device{Backing: backing}
	d.Path = Tool(t, "losetup", append(options, "--find", "--show", backing)...)
	t.Cleanup(func() { d.Detach(t) })
	d.spin(t, false)
	return d
}

// spin sets whether d counts as a rotational disk, of which copies use one stream. Left alone, that depends on the
// disk of the machine.
func (d *Device) spin(t testing.TB, rotational bool) {
	t.Helper()
	value := map[bool]string{false: "0", true: "1"}[rotational]
	if err := os.WriteFile(filepath.Join("/sys/block", filepath.Base(d.Path), "queue/rotational"), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// Zram makes a disk in compressed memory until the test ends.
func Zram(t testing.TB, size int64) (path string) {
	t.Helper()
	require.Need(t, require.Root, require.Zram)
	const control = "/sys/class/zram-control/"
	number, err := os.ReadFile(control + "hot_add")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(control+"hot_remove", number, 0); err != nil {
			t.Error(err)
		}
	})
	name := "zram" + strings.TrimSpace(string(number))
	if err := os.WriteFile("/sys/block/"+name+"/disksize", []byte(strconv.FormatInt(size, 10)), 0); err != nil {
		t.Fatal(err)
	}
	return "/dev/" + name
}

// Detach lets go of the device before the test ends, as what lies below it may need. It may be called twice.
func (d *Device) Detach(t testing.TB) {
	t.Helper()
	d.once.Do(func() { d.detach(t) })
}

// detach checks that the device still belongs to the test's file before it lets go of it by name, and waits until it has:
// the kernel does so when nobody has it open any more, and other tests look at all loop devices.
func (d *Device) detach(t testing.TB) {
	t.Helper()
	if Tool(t, "losetup", "--noheadings", "--output", "BACK-FILE", d.Path) != d.Backing {
		return
	}
	Tool(t, "losetup", "--detach", d.Path)
	behind := filepath.Join("/sys/block", filepath.Base(d.Path), "loop/backing_file")
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(behind)
		switch {
		case err != nil || strings.TrimSpace(string(text)) != d.Backing:
			return
		case time.Now().After(end):
			t.Errorf("%s is still attached to %s", d.Path, d.Backing)
			return
		}
	}
}

// Settle writes out what the kernel holds for a file or device and, for a device, forgets what it has cached, so
// that the next read shows what is stored.
func Settle(t testing.TB, path string) {
	t.Helper()
	if isDevice(t, path) {
		Tool(t, "blockdev", "--flushbufs", path)
		return
	}
	Tool(t, "sync", path)
}

// ReadBack returns the content of a file or device through the dd program, of a device past the page cache.
func ReadBack(t testing.TB, path string) []byte {
	t.Helper()
	Settle(t, path)
	args := []string{"if=" + path, "bs=1M", "status=none"}
	if isDevice(t, path) {
		args = append(args, "iflag=direct")
	}
	cmd := exec.Command("dd", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("dd %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.Bytes()
}

// SHA256 returns the hexadecimal digest of a file or device through the sha256sum program.
func SHA256(t testing.TB, path string) string {
	t.Helper()
	Settle(t, path)
	sum, _, _ := strings.Cut(Tool(t, "sha256sum", path), " ")
	return strings.TrimPrefix(sum, `\`) // sha256sum marks a name with odd characters so
}

// Same fails the test unless both files or devices have the same length and bytes, as the cmp program sees them.
func Same(t testing.TB, a, b string) {
	t.Helper()
	Settle(t, a)
	Settle(t, b)
	Tool(t, "cmp", a, b)
}

// SamePrefix is Same for the first n bytes, for a device that is larger than its image.
func SamePrefix(t testing.TB, a, b string, n int64) {
	t.Helper()
	Settle(t, a)
	Settle(t, b)
	Tool(t, "cmp", "--bytes="+strconv.FormatInt(n, 10), a, b)
}

// Allocated returns the bytes of storage that a file occupies, as the du program sees it.
func Allocated(t testing.TB, path string) int64 {
	t.Helper()
	Settle(t, path)
	kib, _, _ := strings.Cut(Tool(t, "du", "--block-size=1024", path), "\t")
	n, err := strconv.ParseInt(kib, 10, 64)
	if err != nil {
		t.Fatalf("du %s: %v", path, err)
	}
	return n << 10
}

func isDevice(t testing.TB, path string) bool {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Mode()&os.ModeDevice != 0
}
