package device

import "strings"

// Fact is one thing about a target that stays as it is as long as nobody writes to it.
type Fact struct{ What, Value string }

// Key names the target within one boot of its host, as a part of the name of a file.
func (o *Object) Key() string { return strings.ReplaceAll(o.info.ID, ":", "-") }

// cannotWitness is why nothing can be told of a target.
func cannotWitness(path, format string, args ...any) error {
	return refuse(ErrUnsupported, "watch", path, format, args...)
}
