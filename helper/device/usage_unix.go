//go:build unix && !linux && !freebsd && !darwin

package device

import "errors"

func usage(string) (Usage, error) { return Usage{}, errors.ErrUnsupported }
