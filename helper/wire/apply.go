package wire

// Application is how a target becomes what the source is.
type Application uint8

// The ways to apply a delta.
const (
	ApplyDirect  Application = 0 // in place, as it comes
	ApplyReflink Application = 1 // to a clone of an image file, which then takes its name
	ApplyAtomic  Application = 2 // from a spool, when all of it is there
)

func (a Application) validate() error {
	if a > ApplyAtomic {
		return ErrInvalid
	}
	return nil
}
