package device

import (
	"strings"
	"time"
)

// Account is what is told of a target.
type Account struct {
	Facts  []Fact
	Unseen string // writes that no fact shows, for people

	// Stamp is when a program has last written to it, by the clock of the host in
	// nanoseconds, as far as that leaves a stamp: to an image file in any way, to a disk
	// by write. Stamped is what has it.
	Stamp   int64
	Stamped string
}

// Fact is one thing about a target that stays as it is as long as nobody writes to it.
type Fact struct{ What, Value string }

// Key names the target within one boot of its host, as a part of the name of a file.
func (o *Object) Key() string { return strings.ReplaceAll(o.info.ID, ":", "-") }

// touched notes that something was written just now.
func (o *Object) touched() {
	o.synced.Store(false)
	for now := time.Now().UnixNano(); ; {
		last := o.lastWrite.Load()
		if now <= last || o.lastWrite.CompareAndSwap(last, now) {
			return
		}
	}
}

// LastWrite is when the target was last written to by this object, by the clock of the
// host in nanoseconds; 0 for never.
func (o *Object) LastWrite() int64 { return o.lastWrite.Load() }

// cannotWitness is why nothing can be told of a target.
func cannotWitness(path, format string, args ...any) error {
	return refuse(ErrUnsupported, "watch", path, format, args...)
}
