package harness

import (
	"fmt"
	"strings"
	"testing"
)

// verdict stands for a test and keeps what a check has to say about it.
type verdict struct {
	testing.TB
	cleanups []func()
	errors   []string
}

func (v *verdict) Helper() {}

func (v *verdict) Cleanup(f func()) { v.cleanups = append(v.cleanups, f) }

func (v *verdict) Errorf(format string, args ...any) {
	v.errors = append(v.errors, fmt.Sprintf(format, args...))
}

func (v *verdict) finish() {
	for _, f := range v.cleanups {
		f()
	}
}

func lingerOn(release chan struct{}) { <-release }

func TestGoroutines(t *testing.T) {
	for _, c := range []struct {
		name    string
		ignored []string
		leak    bool
	}{
		{"Leak", nil, true},
		{"Ignored", []string{"github.com/rclone-blockdev/rclone-blockdev/fstests/harness.lingerOn"}, false},
		{"OtherIgnored", []string{"net/http."}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := &verdict{TB: t}
			Goroutines(v, c.ignored...)
			release := make(chan struct{})
			go lingerOn(release)
			v.finish()
			close(release)
			if leak := len(v.errors) > 0; leak != c.leak {
				t.Fatalf("leak reported: %v (%v), want %v", leak, v.errors, c.leak)
			}
			if c.leak && !strings.Contains(v.errors[0], "lingerOn") {
				t.Errorf("report does not show the stack: %s", v.errors[0])
			}
		})
	}
	t.Run("EndsLate", func(t *testing.T) {
		Goroutines(t)
		release := make(chan struct{})
		go lingerOn(release)
		go close(release)
	})
}
