//go:build !linux

package device

import (
	"runtime"
	"time"
)

// Witnesses reports whether this system tells who has written to a target.
const Witnesses = false

// Facts are not known on this system.
func (o *Object) Facts() (*Account, error) {
	return nil, cannotWitness(o.path, "%s does not tell whether anybody has written to it", runtime.GOOS)
}

// Seal is for what Facts cannot do here.
func (o *Object) Seal(time.Duration) error {
	_, err := o.Facts()
	return err
}
