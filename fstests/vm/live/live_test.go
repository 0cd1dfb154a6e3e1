//go:build linux

// Package live runs the tests of snapshots in a virtual machine of their own: they take as long as all others in it.
package live

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	_ "github.com/rclone-blockdev/rclone-blockdev/backend/blockdev" // runs inside: its changes make the results here stale
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// TestSnapshots reads the files so that the go tool sees when they change.
func TestSnapshots(t *testing.T) {
	require.Need(t, require.VM, require.LVM, require.Mkfs, require.Xfs)
	program := filepath.Join(t.TempDir(), "exec")
	if out, err := exec.Command("go", "build", "-o", program, "../exec").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	files, err := filepath.Glob("../inside/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	for _, file := range files {
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("go", "test", "-count=1", "-v", "-tags=vm", "-run=^TestSnapshot_", "-exec="+program, "../inside").CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
