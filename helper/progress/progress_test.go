package progress

import (
	"sync/atomic"
	"testing"
	"time"
)

func TestShort(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 1: "1", 999: "999", 1000: "1.0Ki", 4096: "4.0Ki", 10<<10 + 1: "10Ki", 1023 << 10: "1.0Mi", 430 << 20: "430Mi", 1<<40 + 1<<39: "1.5Ti", 1 << 62: "4.0Ei",
	} {
		if got := Short(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestState(t *testing.T) {
	s := State{Done: 256, Size: 1024, Elapsed: time.Second}
	if d, ok := s.ETA(); !ok || d != 3*time.Second || s.Left() != "3s" || s.Percent() != 25 {
		t.Errorf("%v %v %q %d", d, ok, s.Left(), s.Percent())
	}
	s = State{Size: 1 << 62, Elapsed: time.Second}
	if d, ok := s.ETA(); ok || s.Left() != "-" || s.Percent() != 0 {
		t.Errorf("%v %q %d", d, s.Left(), s.Percent())
	}
	if p := (State{Done: 1 << 62, Size: 1 << 62}).Percent(); p != 100 {
		t.Errorf("%d", p)
	}
	if p := (State{}).Percent(); p != 100 {
		t.Errorf("%d of nothing", p)
	}
}

// Nothing is shown after stop has returned.
func TestEvery(t *testing.T) {
	var shown atomic.Int64
	stop := Every(time.Millisecond, func(time.Duration) { shown.Add(1) })
	for shown.Load() < 3 {
		time.Sleep(time.Millisecond)
	}
	stop()
	n := shown.Load()
	time.Sleep(20 * time.Millisecond)
	if shown.Load() != n {
		t.Error("it goes on after stop")
	}
	Every(0, func(time.Duration) { t.Error("shown") })()
}
