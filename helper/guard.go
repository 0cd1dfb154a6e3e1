package helper

import (
	"errors"
	"path/filepath"
	"slices"

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
		return p.at(path, func(pinned string) error {
			if named, err := device.Stat(pinned); err != nil || named.ID != o.Info.ID {
				return p.refusal(path)
			}
			return nil
		})
	}
}

// names tells whether a name, in a directory without links, is allowed. It may be that
// of a link which is allowed itself, wherever that leads.
func (p Policy) names(name string) bool {
	return p.leadsTo(name) || slices.ContainsFunc(p.Allow, func(a string) bool {
		a = filepath.Clean(a)
		return name == filepath.Join(resolve(filepath.Dir(a)), filepath.Base(a))
	})
}

// at calls do with a name of path, which was checked, that does not lead elsewhere when
// links above it change. What the name itself is a link to is for do to care about.
func (p Policy) at(path string, do func(pinned string) error) error {
	if len(p.Allow) == 0 {
		return do(path)
	}
	pinned, dir, unpin, err := device.Pin(path)
	if err != nil {
		return err
	}
	defer unpin()
	if !p.names(filepath.Join(dir, filepath.Base(path))) {
		return p.refusal(path)
	}
	err = do(pinned)
	var de *device.Error
	if errors.As(err, &de) {
		de.Path = path
	}
	return err
}
