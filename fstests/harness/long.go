package harness

import (
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// Runs is how often a test of chance runs: short times, or long times with the flag -long.
func Runs(t testing.TB, short, long int) int {
	t.Helper()
	if !require.Long() {
		return short
	}
	t.Logf("-long: %d runs", long)
	return long
}
