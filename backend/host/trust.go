package host

import (
	"context"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Trust asks since which run nobody has written to the target that is open in this leading
// session, and has the helper keep the proof of it at the end of this one.
func (s *Session) Trust(ctx context.Context, run wire.Claim) (*wire.Proof, error) {
	if s.Hello.Features&wire.FeatureTrust == 0 {
		return &wire.Proof{Doubt: "the helper of " + s.host.name + " cannot tell whether anybody has written to a target: its system is none of Linux, or its release too old"}, nil
	}
	var m wire.Proof
	if err := s.ask(ctx, &wire.Trust{Run: run}, &m); err != nil {
		return nil, err
	}
	m.Doubt = oneLine(m.Doubt, wire.MaxText)
	return &m, nil
}
