package helper

import (
	"fmt"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
	"github.com/rclone-blockdev/rclone-blockdev/helper/witness"
)

// trust tells since when nobody has written to the target, and keeps the proof of it from
// now on: until the session ends, which may be at any moment.
func (s *session) trust(r *request) error {
	var m wire.Trust
	if err := r.frame.Decode(&m); err != nil {
		return err
	}
	o, err := s.opened(true)
	switch {
	case err != nil:
		return err
	case !s.leads || s.undo != nil || s.spool != nil || s.received || s.witness != nil:
		return wire.Errorf(wire.CodeProtocol, "protocol error: Trust comes once, in the leading session, before anything is written, and not with an undo or a spool")
	}
	w, found, err := witness.Begin(o, witness.Run(m.Run))
	if err != nil {
		return s.w.Write(&wire.Proof{Doubt: wire.Clip(err.Error())})
	}
	s.witness = w
	if found.Unseen != "" && found.Since != (witness.Run{}) {
		s.tell(found.Unseen)
	}
	return s.w.Write(&wire.Proof{Able: true, Since: wire.Claim(found.Since), Doubt: wire.Clip(found.Doubt)})
}

// attest keeps the proof for the next run, when this one has ended before the target was
// complete. Without it all of the target is compared then. The client may be gone.
func (s *session) attest(o *device.Object) error {
	w := s.witness
	if w == nil {
		return nil
	}
	s.witness = nil
	if err := w.End(o); err != nil {
		return fmt.Errorf("no proof is kept that nobody writes to the target from now on: %w", err)
	}
	return nil
}
