// Package progress is how far something is, for those who look at it: rates, times
// left, and sizes in the units of rclone. It is shared by the commands of the helper,
// which must not contain rclone, and blocksync.
package progress

import (
	"fmt"
	"math"
	"time"
)

// State is how far something is that goes through a number of bytes.
type State struct {
	Done, Size int64 // bytes
	Elapsed    time.Duration
}

// Rate is the bytes done in a second.
func (s State) Rate() float64 { return float64(s.Done) / max(s.Elapsed.Seconds(), 1e-3) }

// ETA is how long it will go on at this rate. ok is false as long as there is none.
func (s State) ETA() (d time.Duration, ok bool) {
	if s.Done <= 0 {
		return 0, false
	}
	left := float64(max(0, s.Size-s.Done)) / s.Rate()
	return time.Duration(left * float64(time.Second)), left < 1e8
}

// Left is ETA for people.
func (s State) Left() string {
	if d, ok := s.ETA(); ok {
		return Rounded(d).String()
	}
	return "-"
}

// Percent is the share that is done; of nothing, all is.
func (s State) Percent() int64 {
	if s.Size <= 0 {
		return 100
	}
	return int64(min(1, float64(s.Done)/float64(s.Size)) * 100)
}

// Every calls show from a goroutine of its own, with the time that has passed, until
// stop is called; after that no more. An interval of 0 or less is never.
func Every(interval time.Duration, show func(elapsed time.Duration)) (stop func()) {
	if interval <= 0 {
		return func() {}
	}
	start, done, ended := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				show(time.Since(start))
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

var units = []string{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}

// Short is n bytes in at most six characters, for what changes while one looks at it.
func Short(n int64) string {
	v, unit := float64(n), units[0]
	for _, next := range units[1:] {
		if v < 1000 {
			break
		}
		v, unit = v/1024, next
	}
	if unit == "" || v >= 10 {
		return fmt.Sprintf("%.0f%s", v, unit)
	}
	return fmt.Sprintf("%.1f%s", v, unit)
}

// Size is n bytes as rclone writes them.
func Size(n int64) string {
	v, unit := float64(n), units[0]
	for _, next := range units[1:] {
		if math.Abs(v) < 1024 {
			break
		}
		v, unit = v/1024, next
	}
	if math.Floor(v) == v {
		return fmt.Sprintf("%.0f%s", v, unit)
	}
	return fmt.Sprintf("%.3f%s", v, unit)
}

// Rounded is a duration without what nobody reads.
func Rounded(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
