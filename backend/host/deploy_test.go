package host

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/bundle"
)

// Every login shell deploys once and finds the helper the second time.
func TestDeployer_Start_LoginShells(t *testing.T) {
	for name, shell := range loginShells(t) {
		t.Run(name, func(t *testing.T) {
			dir, _ := home(t)
			d := shellConn(t, Config{}, shell...)
			unpacked := withHelper(d, fakeHelper)
			start(t, d)
			files := stored(t, dir+"/.cache")
			if len(files) != 1 || unpacked.Load() != 1 {
				t.Fatalf("stored %v, unpacked %d times", files, unpacked.Load())
			}
			before, err := os.Stat(files[0])
			if err != nil || before.Mode().Perm() != 0o700 {
				t.Fatal(before, err)
			}
			if parent, err := os.Stat(filepath.Dir(files[0])); err != nil || parent.Mode().Perm() != 0o700 {
				t.Fatal(parent.Mode(), err)
			}

			again := shellConn(t, Config{}, shell...)
			unpacked = withHelper(again, fakeHelper)
			start(t, again)
			after, err := os.Stat(files[0])
			if err != nil || !after.ModTime().Equal(before.ModTime()) || unpacked.Load() != 0 {
				t.Errorf("the second start stored the helper again: %v", err)
			}
		})
	}
}

// The script itself runs under the sh of the host.
func TestDeployer_Start_HostShells(t *testing.T) {
	needs := map[string][]require.Thing{"dash": {require.Dash}, "busybox": {require.Busybox}}
	for _, name := range []string{"bash", "mksh"} {
		if _, err := exec.LookPath(name); err == nil {
			needs[name] = nil
		}
	}
	for name, things := range needs {
		t.Run(name, func(t *testing.T) {
			require.Need(t, things...)
			path, err := exec.LookPath(name)
			if err != nil {
				t.Fatal(err)
			}
			dir, _ := home(t)
			bin := t.TempDir()
			if err := os.Symlink(path, filepath.Join(bin, "sh")); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			d := shellConn(t, Config{}, filepath.Join(bin, "sh"))
			withHelper(d, fakeHelper)
			start(t, d)
			start(t, d)
			if files := stored(t, dir+"/.cache"); len(files) != 1 {
				t.Error(files)
			}
		})
	}
}

func TestDeployer_Start_OneUpload(t *testing.T) {
	harness.Goroutines(t)
	home(t)
	d := shellConn(t, Config{}, "/bin/sh")
	unpacked := withHelper(d, fakeHelper)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := d.Start(context.Background())
			if err != nil {
				t.Error(err)
				return
			}
			_ = s.Close()
		})
	}
	wg.Wait()
	if unpacked.Load() != 1 {
		t.Errorf("uploaded %d times", unpacked.Load())
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// A file with the right name and other content never runs.
func TestDeployer_Start_Planted(t *testing.T) {
	dir, _ := home(t)
	d := shellConn(t, Config{}, "/bin/sh")
	withHelper(d, fakeHelper)
	start(t, d)
	file := stored(t, dir+"/.cache")[0]
	mark := filepath.Join(dir, "planted-ran")
	planted := "#!/bin/sh\ntouch " + mark + "\n" + strings.TrimPrefix(fakeHelper, "#!/bin/sh\n")
	if err := os.WriteFile(file, []byte(planted), 0o700); err != nil {
		t.Fatal(err)
	}
	again := shellConn(t, Config{}, "/bin/sh")
	unpacked := withHelper(again, fakeHelper)
	start(t, again)
	if _, err := os.Stat(mark); err == nil {
		t.Error("the planted helper ran")
	}
	if unpacked.Load() != 1 {
		t.Error("the helper was not stored anew")
	}
	// The mark works: run directly, the planted file does leave it.
	if err := os.WriteFile(file, []byte(planted), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(file, "version").Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error("the test is blind:", err)
	}
}

// An upload that breaks off or arrives damaged leaves nothing behind.
func TestStoreCommand_Damaged(t *testing.T) {
	dir, _ := home(t)
	d := shellConn(t, Config{}, "/bin/sh")
	withHelper(d, fakeHelper)
	helper, err := d.open("", "")
	if err != nil {
		t.Fatal(err)
	}
	for step, input := range map[string]string{
		"size":   fakeHelper[:len(fakeHelper)-1],
		"digest": strings.Replace(fakeHelper, "exit 9", "exit 8", 1),
		"":       fakeHelper,
	} {
		cmd := exec.Command("/bin/sh", "-c", storeCommand(d.cfg, 0, helper))
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		want := replyPrefix + replyFailed + " " + step + " "
		if step == "" {
			want = replyPrefix + replyStored + " "
		}
		if !strings.HasPrefix(string(out), want) {
			t.Errorf("got %q, want %q", out, want)
		}
		if files := stored(t, dir+"/.cache"); step != "" && len(files) != 0 {
			t.Errorf("%s: left %v", step, files)
		}
		if err := os.RemoveAll(filepath.Join(dir, ".cache")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeployer_Start_ForeignDirectory(t *testing.T) {
	require.Need(t, require.Root)
	dir, runtimeDir := home(t)
	foreign := filepath.Join(dir, ".cache", "rclone-blockdev")
	if err := os.MkdirAll(foreign, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(foreign, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	d := shellConn(t, Config{}, "/bin/sh")
	withHelper(d, fakeHelper)
	start(t, d)
	if len(stored(t, dir+"/.cache")) != 0 || len(stored(t, runtimeDir)) != 1 {
		t.Error("the helper went into a directory of another user")
	}
}

func TestDeployer_Start_NoDigestTool(t *testing.T) {
	dir, _ := home(t)
	bin := t.TempDir()
	for _, tool := range []string{"sh", "uname", "chmod", "mkdir", "cat", "wc", "mv", "rm", "find", "id"} {
		path, err := exec.LookPath(tool)
		if err == nil {
			err = os.Symlink(path, filepath.Join(bin, tool))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	for range 2 {
		d := shellConn(t, Config{}, "/bin/sh")
		unpacked := withHelper(d, strings.ReplaceAll(fakeHelper, "#!/bin/sh", "#!/bin/sh\nPATH="+os.Getenv("PATH")))
		start(t, d)
		start(t, d)
		if len(stored(t, dir+"/.cache")) != 1 || unpacked.Load() != 1 {
			t.Errorf("unpacked %d times", unpacked.Load())
		}
	}
}

func TestDeployer_Start_HelperDir(t *testing.T) {
	dir, _ := home(t)
	for _, option := range []string{"~/my dir", filepath.Join(dir, "it's; $HOME !\\")} {
		d := shellConn(t, Config{HelperDir: option}, "/bin/sh")
		withHelper(d, fakeHelper)
		start(t, d)
		if files := stored(t, strings.Replace(option, "~", dir, 1)); len(files) != 1 {
			t.Errorf("%s: %v", option, files)
		}
	}
	if stored(t, dir+"/.cache") != nil {
		t.Error("the usual directory was used as well")
	}
}

func TestDeployer_Start_HelperPath(t *testing.T) {
	dir, _ := home(t)
	file := filepath.Join(dir, "it's my helper")
	if err := os.WriteFile(file, []byte(fakeHelper), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, option := range []string{file, "~/it's my helper"} {
		start(t, shellConn(t, Config{HelperPath: option}, "/bin/sh"))
	}
	if len(stored(t, dir+"/.cache")) != 0 {
		t.Error("stored a helper although helper_path is set")
	}
	_, err := shellConn(t, Config{HelperPath: "/no/such/helper"}, "/bin/sh").Start(t.Context())
	wantError(t, err, KindDeploy, false, "testhost", "helper_path", "/no/such/helper", "not found")
}

func TestDeployer_Start_Unsupported(t *testing.T) {
	home(t)
	other := bundle.Platform{OS: "linux", Arch: "s390x"}
	if runtime.GOARCH == "s390x" {
		other.Arch = "amd64"
	}
	d := shellConn(t, Config{}, "/bin/sh")
	d.entries = func() ([]bundle.Entry, error) { return nil, nil }
	d.open = func(os, arch string) (bundle.Helper, error) {
		return bundle.Helper{}, bundle.ErrNotGenerated
	}
	_, err := d.Start(t.Context())
	wantError(t, err, KindDeploy, false, "go generate ./...", "helper_path")
	if !errors.Is(err, bundle.ErrNotGenerated) {
		t.Error(err)
	}

	bin := t.TempDir()
	uname := "#!/bin/sh\ncase $1 in -s) echo Linux;; -m) echo mips;; esac\n"
	if err := os.WriteFile(filepath.Join(bin, "uname"), []byte(uname), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	_, err = shellConn(t, Config{}, "/bin/sh").Start(t.Context())
	wantError(t, err, KindDeploy, false, "Linux mips", "no helper exists")
}
