package host

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

func TestRoam(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name    string
		moved   bool
		answer  time.Duration // that the first data took
		late    time.Duration // from then to the next read
		taken   int64
		n       int
		wait    time.Duration
		further bool // the read after it waits as well
	}{
		{name: "InOrder", answer: 40 * ms, taken: 4096, n: 8192},
		{name: "First", moved: true, answer: 40 * ms, n: 4096, further: true},
		{name: "ReadAhead", moved: true, answer: 40 * ms, taken: 4096, n: 8192, wait: roamLimit},
		{name: "Near", moved: true, answer: ms, taken: 4096, n: 8192, wait: ms / roamPart},
		{name: "SameSize", moved: true, answer: 40 * ms, taken: 4096, n: 4096, further: true},
		{name: "Late", moved: true, answer: 40 * ms, late: ms, taken: 4096, n: 8192, wait: roamLimit - ms},
		{name: "Later", moved: true, answer: 40 * ms, late: 5 * ms, taken: 4096, n: 8192},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := roam{moved: c.moved}
				m.ask()
				time.Sleep(c.answer)
				m.answered()
				m.answered() // more of the same answer
				time.Sleep(c.late)
				m.taken = c.taken
				start := time.Now()
				m.wait(t.Context(), c.n)
				if took := time.Since(start); took != c.wait {
					t.Errorf("waited %v, want %v", took, c.wait)
				}
				m.taken = 4096
				start = time.Now()
				m.wait(t.Context(), 8192)
				if waited := time.Since(start) > 0; waited != c.further {
					t.Errorf("waited again: %v", waited)
				}
			})
		})
	}
}

func TestRoam_Cancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := roam{until: time.Now().Add(time.Hour), taken: 1}
	m.wait(ctx, 2)
}

// A range that was read to its end was not left early: chunks of rclone's follow each other.
func TestReader_Move_roams(t *testing.T) {
	s := opened(t, make([]byte, 100_000))
	r := reader(t, s, 0, 50_000)
	for _, c := range []struct {
		read  int
		moved bool
	}{{50_000, false}, {4096, true}, {50_000, false}} {
		if _, err := io.ReadFull(r, make([]byte, c.read)); err != nil {
			t.Fatal(err)
		}
		if r.Move(50_000, 50_000); r.roam.moved != c.moved {
			t.Errorf("%d bytes read: moved is %v", c.read, r.roam.moved)
		}
	}
	r.Close()
}
