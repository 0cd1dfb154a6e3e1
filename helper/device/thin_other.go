//go:build !linux

package device

import "context"

// thin has nothing to keep on this system.
type thin struct{}

func (o *Object) findThin() error { return nil }

func (o *Object) full(err error) error { return err }

// Reclaim has nothing to do on this system.
func (o *Object) Reclaim(context.Context, int64, int64) error { return nil }

// FindHoles finds none on this system.
func (o *Object) FindHoles(context.Context, int64, int64) (notice string) { return "" }

func (o *Object) deviceData(off, end int64) (start, stop int64) { return off, end }

// ScanData is Data for the scan of a target.
func (o *Object) ScanData(off, end int64) (start, stop int64, err error) { return o.Data(off, end) }
