package helper

import (
	"errors"
	"io"

	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Source is an open object as package delta reads it.
func Source(o *device.Object) delta.Source { return source{o} }

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

// salvage is o as a source that goes on after read errors, nil when it does not.
func salvage(o *device.Object, how wire.ReadErrors) *delta.Salvage {
	if how == wire.ReadStop {
		return nil
	}
	return delta.NewSalvage(source{o}, o.Size(), how == wire.ReadSkip, device.Unreadable)
}

// source is what is open as it is read for somebody else.
func (s *session) source() delta.Source {
	if s.salvage != nil {
		return s.salvage
	}
	return source{s.open}
}

// target is an open object as it is brought up to date.
type target struct{ *device.Object }

// Data is what the object had before it was written.
func (t target) Data(off, end int64) (start, stop int64, err error) { return t.ScanData(off, end) }

// findHoles makes ready for reading n bytes at off of o. It may have to change the volume manager's state for a moment,
// which a helper that changes nothing does not do.
func (s *session) findHoles(r *request, o *device.Object, off, n int64) error {
	if s.policy.ReadOnly {
		return nil
	}
	if notice := o.FindHoles(r.ctx, off, n); notice != "" {
		return r.Write(&wire.Notice{Text: wire.Clip(notice)})
	}
	return nil
}

// lengthened is an image file as it is after it was made longer: zeros follow.
type lengthened struct{ source }

// ReadAt reads zeros past the end.
func (l lengthened) ReadAt(p []byte, off int64) (int, error) {
	inside := min(max(l.Size()-off, 0), int64(len(p)))
	clear(p[inside:])
	if inside == 0 {
		return len(p), nil
	}
	if n, err := l.source.ReadAt(p[:inside], off); int64(n) < inside {
		return n, err
	}
	return len(p), nil
}

// Data is that of the object, and a hole behind it.
func (l lengthened) Data(off, end int64) (start, stop int64, err error) {
	if off >= l.Size() {
		return end, end, nil
	}
	start, stop, err = l.source.Data(off, min(end, l.Size()))
	if start == stop {
		start, stop = end, end
	}
	return start, stop, err
}
