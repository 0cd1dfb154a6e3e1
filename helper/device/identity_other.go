//go:build !linux

package device

import "errors"

// lastingIDs are known on Linux only.
func lastingIDs(Info, bool) []string { return nil }

// RereadPartitions is for Linux: other systems notice by themselves.
func (o *Object) RereadPartitions() string { return noPartitions(o.path, errors.ErrUnsupported) }
