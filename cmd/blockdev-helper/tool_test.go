package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// helperCommand is the program that was built, with a folder of its own for temporary files.
func helperCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(harness.Bin(t, "blockdev-helper"), args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	return cmd
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

// A manifest goes from one program to another through a pipe, and the exit codes are those of cmp.
func TestTool(t *testing.T) {
	image := harness.Image{Size: 5<<20 + 70001, Hole: 0.3, Zero: 0.2, Seed: 1}.File(t)
	digest := helperCommand(t, "digest", image)
	var said bytes.Buffer
	digest.Stderr = &said
	manifest, err := digest.Output()
	if err != nil || !strings.Contains(said.String(), "5.067Mi in 6 extents") {
		t.Fatalf("%v: %s", err, &said)
	}
	for _, want := range []int{0, 1, 2} {
		switch want {
		case 1:
			harness.Scatter(t, image, 0.01, 2)
		case 2:
			manifest = manifest[:len(manifest)-1]
		}
		compare := helperCommand(t, "compare", "-", image)
		compare.Stdin = bytes.NewReader(manifest)
		if out, err := compare.CombinedOutput(); exitCode(t, err) != want {
			t.Errorf("exit code %d, want %d: %s", exitCode(t, err), want, out)
		}
	}
}

// A signal ends it at once, with no half file left behind.
func TestTool_Interrupt(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "sparse.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 8<<40); err != nil { // takes seconds
		t.Fatal(err)
	}
	open, _ := pipe(t)
	for name, tt := range map[string]struct {
		args []string
		in   *os.File
	}{
		"writing":                {[]string{"digest", "-o", filepath.Join(dir, "out"), image}, nil},
		"waiting for a manifest": {[]string{"compare", "-", image}, open},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := helperCommand(t, tt.args...)
			var out bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = tt.in, &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond) // it is at work
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			if code := exitCode(t, cmd.Wait()); code != 130 || !strings.Contains(out.String(), "interrupt") {
				t.Errorf("exit code %d: %s", code, &out)
			}
			files, err := os.ReadDir(dir)
			if err != nil || len(files) != 1 {
				t.Errorf("left behind: %v, %v", files, err)
			}
		})
	}
}
