//go:build linux

package vm

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/rclone-blockdev/rclone-blockdev/backend/blockdev" // runs inside: its changes make the results here stale
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// executor builds the program that runs others in a machine.
func executor(t *testing.T) string {
	t.Helper()
	require.Need(t, require.VM)
	path := filepath.Join(t.TempDir(), "exec")
	if out, err := exec.Command("go", "build", "-o", path, "./exec").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

func TestRun(t *testing.T) {
	init := executor(t)
	sh, err := require.Program("sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, script, out string
		code              int
		wrong             string // in the error
	}{
		{"Succeeds", "echo one; echo $WORD $$ >&2", "one\ntwo ", 0, ""},
		{"Fails", "printf 'no end of line'; exit 7", "no end of line", 7, ""},
		{"Killed", "kill -9 $$", "the program ended by signal: killed", 2, ""},
		{"Crashes", "echo one; echo c > /proc/sysrq-trigger", "one\n", 0, "sysrq triggered crash"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			code, err := Run(t.Context(), init, Command{Path: sh, Args: []string{"-c", c.script}, Env: []string{"WORD=two"}}, &out)
			switch {
			case c.wrong == "" && err != nil:
				t.Fatal(err)
			case c.wrong != "" && (err == nil || !bytes.Contains([]byte(err.Error()), []byte(c.wrong))):
				t.Fatalf("error %v does not say %q", err, c.wrong)
			}
			if code != c.code || !strings.HasPrefix(out.String(), c.out) {
				t.Errorf("exit code %d, output %q", code, out.String())
			}
		})
	}
}

// What is recorded inside is added to the record outside.
func TestRun_Record(t *testing.T) {
	init := executor(t)
	sh, err := require.Program("sh")
	if err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(t.TempDir(), "record")
	if err := os.WriteFile(record, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Command{Path: sh, Args: []string{"-c", "echo one >>$" + harness.RecordVariable + "; exit 3"}, Env: []string{harness.RecordVariable + "=" + record}}
	if code, err := Run(t.Context(), init, c, new(bytes.Buffer)); code != 3 || err != nil {
		t.Fatalf("exit code %d, %v", code, err)
	}
	if got, err := os.ReadFile(record); err != nil || string(got) != "before\none\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRun_Cancelled(t *testing.T) {
	init := executor(t)
	sh, err := require.Program("sh")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := Run(ctx, init, Command{Path: sh, Args: []string{"-c", "while :; do :; done"}}, new(bytes.Buffer)); err == nil {
		t.Error("a machine that was stopped is a success")
	}
}

// TestInside runs the tests of the package inside, but for those of snapshots, which package live runs. The files are read so that the go tool sees when they change.
func TestInside(t *testing.T) {
	program := executor(t)
	files, err := filepath.Glob("inside/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	for _, file := range files {
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "test", "-count=1", "-v", "-tags=vm", "-skip=^TestSnapshot_", "-exec="+program, "./inside")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
