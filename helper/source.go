package helper

import (
	"errors"
	"io"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// source is an open object as it is read for somebody else. To the system, a
// file that was cut since it was opened looks like one that ends in a hole: its
// last byte tells, so that a lost end is never taken for zeros.
type source struct{ *device.Object }

// Data is that of the object.
func (s source) Data(off, end int64) (start, stop int64, err error) {
	start, stop, err = s.Object.Data(off, end)
	if err != nil || start < end || off == end {
		return start, stop, err
	}
	var last [1]byte
	if _, err := s.ReadAt(last[:], end-1); err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	return start, stop, nil
}
