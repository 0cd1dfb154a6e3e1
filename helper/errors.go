package helper

import (
	"context"
	"errors"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/recovery"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// codes is the one mapping from the kinds of package device to the wire.
var codes = []struct {
	kind error
	code wire.Code
}{
	{device.ErrNotFound, wire.CodeNotFound},
	{device.ErrNotFile, wire.CodeNotFile},
	{device.ErrIsDir, wire.CodeIsDir},
	{device.ErrNotEmpty, wire.CodeNotEmpty},
	{device.ErrBusy, wire.CodeBusy},
	{device.ErrReadOnly, wire.CodeReadOnly},
	{device.ErrRefused, wire.CodeRefused},
	{device.ErrSizeMismatch, wire.CodeSizeMismatch},
	{device.ErrNoSpace, wire.CodeNoSpace},
	{device.ErrPermission, wire.CodePermission},
	{device.ErrUnsupported, wire.CodeUnsupported},
	{device.ErrIdentity, wire.CodeIdentity},
	{device.ErrIO, wire.CodeIO},
	{recovery.ErrNone, wire.CodeNotFound},
	{recovery.ErrDamaged, wire.CodeCorrupted},
	{recovery.ErrDiffers, wire.CodeRefused},
	{recovery.ErrUndoing, wire.CodeRefused},
	{recovery.ErrCommitted, wire.CodeRefused},
	{recovery.ErrMissing, wire.CodeSizeMismatch}, // nothing else of a spool has that code: clients know it by it
	{recovery.ErrSpace, wire.CodeNoSpace},
	{recovery.ErrIO, wire.CodeIO},
}

// wireError is err as it crosses the wire.
func wireError(err error) *wire.Error {
	var we *wire.Error
	if errors.As(err, &we) {
		return we
	}
	e := &wire.Error{Code: codeOf(err), Offset: -1, Text: wire.Clip(err.Error())}
	var de *device.Error
	if errors.As(err, &de) {
		e.Offset = de.Offset
	}
	return e
}

func codeOf(err error) wire.Code {
	for _, c := range codes {
		if errors.Is(err, c.kind) {
			return c.code
		}
	}
	for _, broken := range []error{wire.ErrShort, wire.ErrTrailing, wire.ErrTooLong, wire.ErrInvalid} {
		if errors.Is(err, broken) {
			return wire.CodeProtocol
		}
	}
	if errors.Is(err, errCancelled) || errors.Is(err, context.Canceled) {
		return wire.CodeCancelled
	}
	return wire.CodeInternal
}
