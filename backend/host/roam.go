package host

import (
	"context"
	"time"
)

// roam makes reading here and there cheap behind rclone's read-ahead. That is a
// goroutine which fills buffers of 4 KiB, 8 KiB, 16 KiB and so on, and a seek has
// to wait until the one in hand is full. It soon is one for which nothing is on
// its way yet, and then this takes a round trip. So at a new place what follows
// the first bytes is held back for a moment: who wanted only these is elsewhere by
// then, and the buffer in hand a small one, for which all has arrived.
type roam struct {
	moved bool      // the range before was left early
	asked time.Time // when the present range was; zero once it has answered
	until time.Time // nothing but the first bytes is given out before
	taken int64     // bytes of the present range that were given out
}

// A moment is this part of what the first answer took, so that it never costs more
// than it can save, and at most this long: a program on the same machine needs
// less to ask for the next place.
const (
	roamPart  = 4
	roamLimit = 2 * time.Millisecond
)

// ask notes that a range is asked for.
func (m *roam) ask() { m.asked, m.until, m.taken = time.Now(), time.Time{}, 0 }

// answered notes that data has come.
func (m *roam) answered() {
	if m.moved && !m.asked.IsZero() {
		m.until = time.Now().Add(min(time.Since(m.asked)/roamPart, roamLimit))
	}
	m.asked = time.Time{}
}

// wait holds back what follows the first bytes, unless n, the bytes that are
// wanted, are no more than those: then it is no buffer that grows.
func (m *roam) wait(ctx context.Context, n int) {
	if m.until.IsZero() || m.taken == 0 || int64(n) <= m.taken {
		return
	}
	timer := time.NewTimer(time.Until(m.until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	m.until = time.Time{}
}
