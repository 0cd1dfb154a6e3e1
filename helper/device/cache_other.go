//go:build !linux

package device

import (
	"errors"
	"os"
)

func inMemory(*os.File) bool { return false }

func cached(*os.File, int64, *regionCache) error { return errors.ErrUnsupported }

func dropCached(*os.File, int64, int64) {}

func startWriting(*os.File, int64, int64) {}

func awaitWriting(*os.File, int64, int64) error { return nil }
