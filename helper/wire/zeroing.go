package wire

// Zeroing is how a client wants ranges of a target to become zero.
type Zeroing uint8

// The ways to zero.
const (
	ZeroAuto  Zeroing = 0 // space is freed where that is proved to give zeros; else zeros are written
	ZeroWrite Zeroing = 1 // zeros are written, and an image file is given all its space
	ZeroPunch Zeroing = 2 // space is freed, or the target refused
)

func (z Zeroing) validate() error {
	if z > ZeroPunch {
		return ErrInvalid
	}
	return nil
}
