package host

import "github.com/rclone-blockdev/rclone-blockdev/helper/wire"

const (
	inboxSize = 16 // frames that may wait to be taken
	mostLarge = 1  // of these that hold a megabyte each
)

// read moves frames from the stream to the inbox until the stream ends.
func (s *Session) read() {
	defer close(s.inbox)
	defer close(s.over)
	for {
		f, err := s.r.Next()
		if err == nil && !f.Type.IsKnown() && f.Type&wire.Optional == 0 {
			err = s.unknown(f.Type)
			f.Release()
		}
		if err != nil {
			s.mu.Lock()
			s.lost = err
			s.mu.Unlock()
			return
		}
		if f.Type&wire.Optional != 0 {
			f.Release()
			continue
		}
		if f.Large() {
			s.large <- struct{}{}
		}
		s.inbox <- f
	}
}

// taken is for each frame that was taken from the inbox.
func (s *Session) taken(f *wire.Frame) {
	if f.Large() {
		<-s.large
	}
}
