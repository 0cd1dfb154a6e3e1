package device

import (
	"os"
	"path/filepath"
)

// Guard judges what was opened, before anything is done with it: what a path leads
// to may have changed since it was looked at. A refusal closes it again.
type Guard func(Opening) error

// Opening is what a Guard is asked about.
type Opening struct {
	Real string // path of what is open, without links; empty where the system does not tell
	Info Info   // of what is open
}

// disown removes a partial file that was made where nothing may be made, unless it
// has another name by now.
func (o *Object) disown() {
	if real, err := realPath(o.f); err == nil && isPartial(base(real)) {
		_ = os.Remove(real)
	}
}

// admit asks the guard, if there is one.
func (o *Object) admit(guard Guard) error { return o.admitAs("", guard) }

// admitAs asks the guard about the name that a new image will have, in the directory
// that it is in.
func (o *Object) admitAs(name string, guard Guard) error {
	if guard == nil {
		return nil
	}
	real, err := realPath(o.f)
	if err != nil {
		return refuse(ErrRefused, "open", o.path, "what it leads to cannot be told: %v", err)
	}
	if name != "" && real != "" {
		real = filepath.Join(filepath.Dir(real), name)
	}
	return guard(Opening{real, o.info})
}
