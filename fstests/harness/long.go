package harness

import (
	"os"
	"testing"
)

// LongVariable is the environment variable that makes tests of chance run as often as they are meant to. Without it
// they run a few times, which takes seconds.
const LongVariable = "BLOCKDEV_TEST_LONG"

// Runs is how often a test of chance runs: short times, or long times where LongVariable is set.
func Runs(t testing.TB, short, long int) int {
	t.Helper()
	if os.Getenv(LongVariable) == "" {
		return short
	}
	t.Logf("%s is set: %d runs", LongVariable, long)
	return long
}
