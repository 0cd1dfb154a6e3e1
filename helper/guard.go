package helper

import (
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// guard is check for what was opened at path, since links may have changed between
// the two. It is nil where everything is allowed.
func (p Policy) guard(path string) device.Guard {
	if len(p.Allow) == 0 {
		return nil
	}
	return func(o device.Opening) error {
		real := o.Real
		if real == "" {
			real = resolve(path)
		}
		if p.leadsTo(real) {
			return nil
		}
		if o.Info.Kind != device.Block {
			return p.refusal(path)
		}
		// The directory of a link to a device must be allowed, as for checkLink.
		dir, named, err := device.Within(path)
		if err != nil || named.ID != o.Info.ID || !p.leadsTo(dir) {
			return p.refusal(path)
		}
		return nil
	}
}
