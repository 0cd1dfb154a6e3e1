package helper

import (
	"fmt"
	"runtime"

	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// verified receives, and reads again what the client asked for with Open.
func (s *session) verified(r *request, m *wire.Receive, tgt delta.Target) (*wire.Summary, error) {
	if s.verify == wire.VerifyOff {
		return delta.Receive(r.ctx, r, tgt, m.Range(), m.Window)
	}
	return delta.ReceiveVerified(r.ctx, r, tgt, m.Range(), m.Window, s.verify == wire.VerifyFull, func(off, n int64) error {
		return r.Write(&wire.Notice{Text: wire.Clip(fmt.Sprintf("%s did not keep what was written to the %d bytes at byte %d, and was written once more: "+
			"the disk or what is below it may be failing", s.open.Path(), n, off))})
	})
}

// cannotVerify says what verifying is worth on this system, where that is less than
// it promises.
func cannotVerify(o *device.Object, v wire.Verification) string {
	if v == wire.VerifyOff || device.ReadsBack {
		return ""
	}
	return o.Path() + ": on " + runtime.GOOS + " nothing is read past the cache: verify finds only what went wrong before it"
}
