package helper

import (
	"runtime"

	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// proved is a target that is read again from the medium.
type proved struct {
	delta.Target
	o   *device.Object
	all bool
}

// ProveAll tells that all of it is to be read again.
func (p proved) ProveAll() bool { return p.all }

// ReadBack reads what the medium holds.
func (p proved) ReadBack(b []byte, off int64) error { return p.o.ReadBack(b, off) }

// Settled passes on what the target below wants to know.
func (p proved) Settled(off int64, n int) error {
	if st, ok := p.Target.(delta.Settler); ok {
		return st.Settled(off, n)
	}
	return nil
}

// verified is tgt, to be read again as the client asked for with Open.
func verified(o *device.Object, tgt delta.Target, v wire.Verification) delta.Target {
	if v == wire.VerifyOff {
		return tgt
	}
	return proved{tgt, o, v == wire.VerifyFull}
}

// cannotVerify says what verifying is worth on this system, where that is less than
// it promises.
func cannotVerify(o *device.Object, v wire.Verification) string {
	if v == wire.VerifyOff || device.ReadsBack {
		return ""
	}
	return o.Path() + ": on " + runtime.GOOS + " nothing is read past the cache: verify finds only what went wrong before it"
}
