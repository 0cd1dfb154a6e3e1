package wire

import (
	"io"
	"time"
)

// Alive shows that the end which sends it is there.
type Alive struct{ empty }

// Type is that of the frame.
func (*Alive) Type() Type { return TypeAlive }

// Where both ends have FeatureAlive, each sends Alive at least every AliveEvery, and
// may take the other for dead when nothing came for AliveLimit.
const (
	AliveEvery = 15 * time.Second
	AliveLimit = 2 * time.Minute
)

// Pulse sends Alive until done is closed or the stream is broken.
func (w *Writer) Pulse(done <-chan struct{}) {
	ticker := time.NewTicker(AliveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if w.Write(&Alive{}) != nil {
				return
			}
		case <-done:
			return
		}
	}
}

// Silence notices that nothing comes on a stream. Only the time in which somebody
// waits for bytes counts: what keeps an end from reading is not the other's fault.
// It is for one goroutine.
type Silence struct {
	r     io.Reader
	limit time.Duration // 0 for none
	timer *time.Timer
}

// NewSilence reads from r. When a Read has waited for the limit, too is called: it must
// end that Read.
func NewSilence(r io.Reader, limit time.Duration, too func()) *Silence {
	s := &Silence{r: r, limit: limit, timer: time.AfterFunc(time.Hour, too)}
	s.timer.Stop()
	return s
}

// Limit sets the limit; 0 is none.
func (s *Silence) Limit(limit time.Duration) { s.limit = limit }

// Read reads from the stream.
func (s *Silence) Read(p []byte) (int, error) {
	if s.limit == 0 {
		return s.r.Read(p)
	}
	s.timer.Reset(s.limit)
	defer s.timer.Stop()
	return s.r.Read(p)
}
