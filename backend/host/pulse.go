package host

import (
	"fmt"

	"github.com/rclone-blockdev/rclone-blockdev/helper"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// hello is what this end says of itself. It says that it is there from time to time
// where it may be cut off without noticing, and unless the user wants silence.
func (s *Session) hello() *wire.Hello {
	m := helper.Hello()
	if s.Local() || s.host.cfg.KeepAlive <= 0 {
		m.Features &^= wire.FeatureAlive
	}
	return m
}

// pulse begins to say that this end is there, and to listen whether the other is. A
// helper that does not say so is waited for: the connection has its own keepalive.
func (s *Session) pulse() {
	if s.hello().Features&s.Hello.Features&wire.FeatureAlive == 0 {
		s.in.Limit(0)
		return
	}
	go s.w.Pulse(s.over)
}

// giveUp ends a stream on which nothing comes.
func (s *Session) giveUp() {
	s.quiet.Store(true)
	s.stream.Close()
}

// unknown is the error for a frame that this release cannot skip.
func (s *Session) unknown(t wire.Type) error {
	const text = "a frame of type %#02x, which this program (version %d of the protocol, %s) does not know, from a helper of version %d (%s): %w"
	return fmt.Errorf(text, uint8(t), wire.Version, helper.Version(), s.Hello.Version, s.Hello.Build, wire.ErrInvalid)
}
