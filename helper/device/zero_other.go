//go:build !linux

package device

// zeroUnit is of no importance where nothing is punched.
func (o *Object) zeroUnit() int64 { return 1 }

// punch leaves zeroing to writing: holes are skipped, data becomes zeros.
func (o *Object) punch(int64, int64) error { return errNoPunch }

// cannotFree tells why nothing is freed here.
func (o *Object) cannotFree() string { return "that is known for Linux only" }

// reserve does not know how. Where the file system tells of holes, they stay.
func (o *Object) reserve(int64) error {
	o.note(o.path + ": space cannot be reserved on this system, so what is zero at both ends may take none")
	return nil
}
