//go:build !linux

package device

import (
	"errors"
	"os"
)

func cloneFile(_, _ *os.File) error { return errors.ErrUnsupported }
