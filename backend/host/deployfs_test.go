package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// mountTmpfs mounts a file system over dir until the test ends.
func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	require.Need(t, require.Root, require.Mount)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
}

// A directory that cannot hold or run the helper leads to the next one, and
// nothing is left in it.
func TestDeployer_Start_SecondCandidate(t *testing.T) {
	big := fakeHelper + strings.Repeat("# padding\n", 40<<10)
	tests := map[string]struct{ options string }{
		"noexec": {"noexec,size=4m"},
		"full":   {"size=64k"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir, runtimeDir := home(t)
			mountTmpfs(t, filepath.Join(dir, ".cache"), tt.options)
			d := shellConn(t, Config{}, "/bin/sh")
			unpacked := withHelper(d, big)
			start(t, d)
			if files := stored(t, dir+"/.cache"); len(files) != 0 {
				t.Errorf("left in the first directory: %v", files)
			}
			if files := stored(t, runtimeDir); len(files) != 1 {
				t.Errorf("second directory: %v", files)
			}
			start(t, d)
			if unpacked.Load() != 1 {
				t.Error("stored again")
			}
		})
	}
}

// A helper in a directory that was remounted noexec is not used.
func TestDeployer_Start_NoexecLater(t *testing.T) {
	dir, runtimeDir := home(t)
	mountTmpfs(t, filepath.Join(dir, ".cache"), "size=4m")
	d := shellConn(t, Config{}, "/bin/sh")
	withHelper(d, fakeHelper)
	start(t, d)
	if out, err := exec.Command("mount", "-o", "remount,noexec", filepath.Join(dir, ".cache")).CombinedOutput(); err != nil {
		t.Fatalf("remount: %v: %s", err, out)
	}
	d = shellConn(t, Config{}, "/bin/sh")
	withHelper(d, fakeHelper)
	start(t, d)
	if files := stored(t, runtimeDir); len(files) != 1 {
		t.Errorf("second directory: %v", files)
	}
}

// Without any usable directory the error names each and what is wrong with it.
// An ordinary user is needed, since root also has /run.
func TestDeployer_Start_Nowhere(t *testing.T) {
	shell := []string{"/bin/sh"}
	if os.Geteuid() == 0 {
		shell = []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/bin/sh"}
	}
	dir, runtimeDir := home(t)
	if err := os.WriteFile(filepath.Join(dir, ".cache"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, runtimeDir} {
		if err := os.Chmod(d, 0o555); err != nil {
			t.Fatal(err)
		}
	}
	d := shellConn(t, Config{}, shell...)
	withHelper(d, fakeHelper)
	_, err := d.Start(t.Context())
	wantError(t, err, KindDeploy, false, dir+"/.cache/rclone-blockdev", runtimeDir+"/rclone-blockdev",
		"cannot be created", "mkdir", "helper_dir", "helper_path")
}

func TestDeployer_Start_OldHelpers(t *testing.T) {
	dir, _ := home(t)
	cache := filepath.Join(dir, ".cache", "rclone-blockdev")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]string{"helper-old": "40 days ago", "helper-new": "1 day ago", "upload-old": "3 days ago", "mine": "90 days ago"} {
		if out, err := exec.Command("touch", "-d", age, filepath.Join(cache, name)).CombinedOutput(); err != nil {
			t.Fatalf("touch: %v: %s", err, out)
		}
	}
	d := shellConn(t, Config{}, "/bin/sh")
	withHelper(d, fakeHelper)
	start(t, d)
	files := strings.Join(stored(t, dir+"/.cache"), " ")
	for name, want := range map[string]bool{"helper-old": false, "helper-new": true, "upload-old": false, "mine": true} {
		if strings.Contains(files, name) != want {
			t.Errorf("%s: want present %v, have %s", name, want, files)
		}
	}
}
