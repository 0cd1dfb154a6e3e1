//go:build !linux

package snapshot

import (
	"context"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// Supported tells whether this system has what the package needs.
const Supported = false

// Hold is a set that a session needs.
type Hold struct{}

// Prepare refuses: sets need locks, processes and programs that only Linux has.
func Prepare(_ context.Context, spec *Spec, _ bool, _ func(string)) (*Hold, error) {
	return nil, fail(device.ErrUnsupported, spec.Path, "snapshots and hooks work on Linux hosts only")
}

// Device is what is to be read instead of path.
func (*Hold) Device(string) (name, id string) { return "", "" }

// Made is when the set was made.
func (*Hold) Made() time.Time { return time.Time{} }

// Release has nothing to do.
func (*Hold) Release() {}

// Conclude has nothing to end.
func Conclude(context.Context, string, Outcome, bool, func(string)) error { return nil }

// Sweep has nothing to remove.
func Sweep(string, func(string)) {}

// List has nothing to tell.
func List(context.Context) []Kept { return nil }

// Remove has nothing to remove.
func Remove(_ context.Context, id string, _ func(string)) error {
	return fail(device.ErrNotFound, id, "there is no such snapshot of ours")
}
