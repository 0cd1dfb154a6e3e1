package wire

// Verification is what of a target is read again, from the medium, before Finished.
type Verification uint8

// What is read again.
const (
	VerifyOff     Verification = 0 // nothing
	VerifyWritten Verification = 1 // every extent in which something was written
	VerifyFull    Verification = 2 // everything
)

func (v Verification) validate() error {
	if v > VerifyFull {
		return ErrInvalid
	}
	return nil
}
