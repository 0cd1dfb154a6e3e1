package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// start runs the demo with finished programs and returns what it printed.
func start(t *testing.T, ctx context.Context, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	bin := filepath.Dir(harness.Bin(t, "rclone-blockdev"))
	var out, errs bytes.Buffer
	code = run(ctx, append([]string{"-bin", bin}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

// empty fails the test when something is left in dir.
func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s is left in %s", e.Name(), dir)
	}
}

func TestRun_Localhost(t *testing.T) {
	dir := t.TempDir()
	code, stdout, stderr := start(t, t.Context(), "-size", "16M", "-dir", dir)
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, standard error %q", code, stderr)
	}
	for _, want := range []string{
		`(?m)^first copy +\S+ MiB +0 B +\S+ MiB +\S+ MiB +\S+ s$`,
		`(?m)^nothing changed +\S+ MiB +\S+ MiB +0 B +\S+ MiB +\S+ s$`,
		`(?m)^1 % changed +\S+ MiB +\S+ MiB +1\d\d KiB +\S+ MiB +\S+ s$`,
		`(?m)^pulled back +\S+ s$`,
		`(?m)identical`,
	} {
		if !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("nothing matches %s in\n%s", want, stdout)
		}
	}
	for line := range strings.Lines(stdout) {
		if len(line) > 81 && !strings.Contains(line, dir) {
			t.Errorf("wider than 80 columns: %s", line)
		}
	}
	empty(t, dir)
}

func TestRun_Errors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"NoHost", []string{"-ssh", "/tmp"}, 1, "write user@host:/directory"},
		{"NoDirectory", []string{"-ssh", "localhost:" + file}, 1, "is no directory"},
		{"NoImages", []string{"-size", "1M", "-ssh", "localhost:/proc"}, 1, "nothing is created under"},
		{"NoPrograms", []string{"-bin", dir}, 1, "no such file"},
		{"Absent", []string{"-ssh", "localhost:" + file + "er"}, 1, "directory not found"},
		{"NoDir", []string{"-dir", file + "er"}, 1, "no such file"},
		{"Size", []string{"-size", "12 elephants"}, 2, "give a number"},
		{"Argument", []string{"copy"}, 2, `unexpected argument "copy"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, stderr := start(t, t.Context(), c.args...)
			if code != c.code || !strings.Contains(stderr, c.says) {
				t.Errorf("exit code %d, standard error %q", code, stderr)
			}
			if c.code == 1 && strings.Count(stderr, "\n") != 1 {
				t.Errorf("not one line: %q", stderr)
			}
		})
	}
}

// sshd starts a server that the demo can log in to, and returns what -ssh needs
// and the directory it leads to.
func sshd(t *testing.T) (spec, dir string) {
	t.Helper()
	server := harness.Sshd(t)
	t.Setenv("RCLONE_BLOCKDEV_KEY_FILE", server.KeyFile)
	t.Setenv("RCLONE_BLOCKDEV_KNOWN_HOSTS_FILE", server.KnownHosts)
	t.Setenv("RCLONE_BLOCKDEV_HELPER_PATH", harness.Bin(t, "blockdev-helper"))
	t.Setenv("RCLONE_BLOCKDEV_SSH_CONFIG", "none")
	dir = t.TempDir()
	return server.User + "@" + server.Host + ":" + strconv.Itoa(server.Port) + dir, dir
}

func TestRun_SSH(t *testing.T) {
	require.Need(t, require.Sshd)
	spec, far := sshd(t)
	near := t.TempDir()
	code, stdout, stderr := start(t, t.Context(), "-size", "16M", "-dir", near, "-ssh", spec)
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, standard error %q", code, stderr)
	}
	want := regexp.MustCompile(`(?m)^1 % changed +\S+ MiB +\S+ MiB +[1-3]\d\d KiB +`)
	if !want.MatchString(stdout) || !strings.Contains(stdout, "on the wire") {
		t.Errorf("bytes on the wire are missing in\n%s", stdout)
	}
	empty(t, near)
	empty(t, far)
}

// TestRun_Interrupted ends the first copy to a host when its file is there.
func TestRun_Interrupted(t *testing.T) {
	require.Need(t, require.Sshd)
	spec, far := sshd(t)
	near := t.TempDir()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	go func() {
		for ctx.Err() == nil {
			if files, _ := os.ReadDir(far); len(files) > 0 {
				interrupt()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	code, _, stderr := start(t, ctx, "-size", "512M", "-dir", near, "-ssh", spec)
	if code != 1 || !strings.Contains(stderr, "interrupted") {
		t.Errorf("exit code %d, standard error %q", code, stderr)
	}
	empty(t, near)
	empty(t, far)
}

// TestImports holds that starting the demo does not mean building rclone.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "github.com/rclone/rclone") {
		t.Error("the demo depends on rclone")
	}
}
