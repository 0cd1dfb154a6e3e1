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

func likeFlags(_, _ *os.File) {}

func likeAttributes(_, _ *os.File) error { return nil }

func dropACL(*os.File) {}
