//go:build !linux

package device

import (
	"errors"
	"os"
)

func cloneFile(_, _ *os.File) error { return errors.ErrUnsupported }

func setStamp(*os.File, string) error { return errors.ErrUnsupported }

func getStamp(*os.File) (string, error) { return "", errors.ErrUnsupported }

func removeStamp(*os.File) {}
