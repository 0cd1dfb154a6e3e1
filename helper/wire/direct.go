package wire

// Direct is whether a client wants a device to be read past the page cache.
type Direct uint8

// The ways to read. What cannot be read past the cache is read through it.
const (
	DirectOff  Direct = 0 // through the cache
	DirectAuto Direct = 1 // past it where that is known to be faster and safe
	DirectOn   Direct = 2 // past it
)

func (d Direct) validate() error {
	if d > DirectOn {
		return ErrInvalid
	}
	return nil
}
