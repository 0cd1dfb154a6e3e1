package harness

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// background names functions that rclone and the standard library start once and never end. A goroutine that
// began in one of them, or was created by one, is no leak.
var background = []string{
	"os/signal.",
	"testing.",
	"github.com/rclone/rclone/fs/accounting.",
	"github.com/rclone/rclone/fs/cache.",
	"github.com/rclone/rclone/fs/config.",
	"github.com/rclone/rclone/fs/rc/jobs.",
	"github.com/rclone/rclone/lib/atexit.",
	"github.com/rclone/rclone/lib/cache.",
	"github.com/rclone/rclone/lib/pool.",
	"go.opencensus.io/",
}

// Goroutines fails the test when goroutines that it started are alive two seconds after it and its later
// cleanups have ended. Call it first in the test, and not in tests that run in parallel with others: their
// goroutines look like leaks. Ignored are further prefixes of functions that may stay.
func Goroutines(t testing.TB, ignored ...string) {
	t.Helper()
	before := goroutines(nil)
	t.Cleanup(func() {
		ignored := append(ignored, background...)
		var leaked []string
		for wait := time.Millisecond; wait < 2*time.Second; wait *= 2 {
			leaked = leaked[:0]
			for id, stack := range goroutines(ignored) {
				if _, old := before[id]; !old {
					leaked = append(leaked, stack)
				}
			}
			if len(leaked) == 0 {
				return
			}
			time.Sleep(wait)
		}
		t.Errorf("%d goroutines leaked:\n\n%s", len(leaked), strings.Join(leaked, "\n\n"))
	})
}

// goroutines returns the stacks of all goroutines but the caller's, by their number, which is never used again.
func goroutines(ignored []string) map[string]string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	all := map[string]string{}
	for i, stack := range strings.Split(string(buf), "\n\n") {
		id, _, _ := strings.Cut(stack, " [")
		if i > 0 && !startedBy(stack, ignored) { // the first is the caller's
			all[id] = stack
		}
	}
	return all
}

// startedBy reports whether the goroutine began in, or was created by, a function with one of the prefixes. What it
// has called since does not matter: our own goroutine that hangs inside rclone is a leak.
func startedBy(stack string, prefixes []string) bool {
	var first, creator string
	for line := range strings.Lines(stack) {
		if name, ok := strings.CutPrefix(line, "created by "); ok {
			creator = name
		} else if !strings.HasPrefix(line, "\t") && creator == "" {
			first = line
		}
	}
	for _, prefix := range prefixes {
		if strings.HasPrefix(first, prefix) || strings.HasPrefix(creator, prefix) {
			return true
		}
	}
	return false
}
