package require

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// recorder stands for a test and keeps how Need ended it.
type recorder struct {
	testing.TB
	ending, text string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, args ...any) { r.end("skipped", format, args) }

func (r *recorder) Fatalf(format string, args ...any) { r.end("failed", format, args) }

func (r *recorder) end(how, format string, args []any) {
	r.ending, r.text = how, fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func need(things ...Thing) *recorder {
	r := &recorder{ending: "ran"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		Need(r, things...)
	}()
	<-done
	return r
}

func TestNeed(t *testing.T) {
	const here, absent Thing = "here", "absent"
	probes[here] = func() error { return nil }
	probes[absent] = func() error { return errors.New("buy one") }
	t.Cleanup(func() { delete(probes, here); delete(probes, absent) })

	for _, c := range []struct {
		name, env string
		things    []Thing
		ending    string
	}{
		{"NothingAsked", "", nil, "ran"},
		{"There", "all", []Thing{here}, "ran"},
		{"Missing", "", []Thing{here, absent}, "skipped"},
		{"MissingAll", "all", []Thing{here, absent}, "failed"},
		{"MissingListed", "root, absent", []Thing{absent}, "failed"},
		{"MissingOtherListed", "here,root", []Thing{absent}, "skipped"},
		{"MisspeltList", "rot", []Thing{absent}, "failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(Variable, c.env)
			r := need(c.things...)
			if r.ending != c.ending {
				t.Fatalf("test was %s (%s), want %s", r.ending, r.text, c.ending)
			}
			if r.ending == "skipped" && !strings.Contains(r.text, "absent: buy one") {
				t.Errorf("reason %q does not say what to do", r.text)
			}
		})
	}
}

// TestMissing runs each probe, so that a gate machine shows in one place what it lacks.
func TestMissing(t *testing.T) {
	for thing := range probes {
		t.Run(string(thing), func(t *testing.T) { Need(t, thing) })
	}
}
