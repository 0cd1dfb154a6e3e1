package device

import (
	"errors"
	"strings"
)

// errPoolFull is what full says the system has said.
var errPoolFull = errors.New("its thin pool has no space left: extend it or remove something from it, and run the same command again")

// full tells a pool without space from a disk that fails: by the time that the kernel
// writes what it was given it does not say why a volume did not take it.
func (o *Object) full(err error) error {
	e, ok := err.(*Error)
	if !ok || e.Kind != ErrIO || o.info.Kind != Block {
		return err
	}
	n, _ := deviceNumber(o.info.ID)
	v, ok := host.thinVolume(n)
	if !ok {
		return err
	}
	if words, ok := only(host.dmStatus(v.pool))("thin-pool", 5); ok && noSpace(words) {
		e.Kind, e.Err = ErrNoSpace, errPoolFull
	}
	return err
}

// noSpace tells whether the state of a pool is that of a full one.
func noSpace(words []string) bool {
	used, total, _ := strings.Cut(words[2], "/")
	return words[4] == "out_of_data_space" || used == total && total != ""
}
