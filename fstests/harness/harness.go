// Package harness is what the tests of several packages share: a private OpenSSH server, a counting relay, disk
// images, loop devices, reads that do not go through the code under test, a check for leaked goroutines, and the
// programs of this repository built and run with an environment of their own.
//
// It imports nothing of the project but the gate, and never rclone: what it measures and compares must not share
// code with what is tested. Everything it starts ends with the test that asked for it.
package harness

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// Tool runs a system program and returns what it printed, without the last line end. The test fails with what
// the program said when it does not succeed.
func Tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	path, err := require.Program(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return strings.TrimRight(stdout.String(), "\n")
}
