package device

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// What looks like a device name never becomes a file.
func TestOpenWrite_NothingCreatedInKernelTrees(t *testing.T) {
	require.Need(t, require.Root)
	plain := "/dev/blockdev-test-plain"
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatalf("the mistake is not possible here: %v", err)
	}
	t.Cleanup(func() { os.Remove(plain) })

	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/dev", link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/dev/sdbb", "/dev/no/such/dir", link + "/sdbb", "/proc/sdbb", "/sys/sdbb"} {
		o, err := OpenWrite(path, WriteOptions{Size: 1})
		if err == nil {
			o.Abort()
		}
		wantError(t, err, ErrRefused, path, "nothing is created under", "check the device name")
		if err := Mkdir(path); !errors.Is(err, ErrRefused) {
			t.Errorf("mkdir %s: %v", path, err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s exists", path)
		}
	}
	for name, err := range map[string]error{
		"remove": Remove(plain),
		"rmdir":  Rmdir("/dev/shm"),
		"mkdir":  Mkdir("/dev"), // exists: fine
	} {
		if want := name != "mkdir"; errors.Is(err, ErrRefused) != want {
			t.Errorf("%s: %v", name, err)
		}
	}

	shm := "/dev/shm/blockdev-test/disk.img"
	t.Cleanup(func() { os.RemoveAll(filepath.Dir(shm)) })
	o, err := OpenWrite(shm, WriteOptions{Size: 1})
	if err != nil {
		t.Fatalf("/dev/shm is an ordinary file system: %v", err)
	}
	o.Abort()
}

// The file system of devices is known wherever it is mounted.
func TestKernelTree_DevtmpfsElsewhere(t *testing.T) {
	if dir := os.Getenv(elsewhere); dir != "" {
		path := filepath.Join(dir, "sdbb")
		_, err := OpenWrite(path, WriteOptions{Size: 1})
		wantError(t, err, ErrRefused, path, "nothing is created under "+dir)
		return
	}
	againUnshared(t, t.TempDir(), `mount -t devtmpfs devtmpfs "$1"`)
}

// In a container /dev is a tmpfs.
func TestKernelTree_TmpfsAtDev(t *testing.T) {
	if os.Getenv(elsewhere) != "" {
		if err := os.WriteFile("/dev/plain", []byte("x"), 0o600); err != nil {
			t.Fatalf("the mistake is not possible here: %v", err)
		}
		_, err := OpenWrite("/dev/sdbb", WriteOptions{Size: 1})
		wantError(t, err, ErrRefused, "/dev/sdbb", "nothing is created under /dev")
		_, err = OpenWrite("/dev/no/such", WriteOptions{Size: 1})
		wantError(t, err, ErrRefused, "/dev/no/such", "nothing is created under /dev")
		return
	}
	againUnshared(t, "/dev", `mount -t tmpfs tmpfs "$1"`)
}

// elsewhere names, for a test that runs again, what was mounted.
const elsewhere = "DEVICE_TEST_MOUNTED"

// againUnshared runs the test again in a mount namespace of its own, where mount
// has mounted something on dir. Nobody outside sees the mount: a clean-up that
// removed dir through it would remove the devices of the machine.
func againUnshared(t *testing.T, dir, mount string) {
	t.Helper()
	require.Need(t, require.Root, require.Mount)
	unshare, err := require.Program("unshare")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := mount + ` && exec "$0" -test.v -test.run="^` + t.Name() + `$"`
	cmd := exec.Command(unshare, "--mount", "--propagation", "private", "sh", "-c", script, self, dir)
	cmd.Env = append(os.Environ(), elsewhere+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}
