package host

import (
	"errors"
	"fmt"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Watch has moved called, by Join and Compare with s as the source, for each extent
// that differs: with the bytes that cross as data, and those that are named as zero,
// as the sender sees it. What is sent twice is counted twice. It ends with Release.
func (s *Session) Watch(moved func(data, zeroed int64)) { s.moved = moved }

// floorMeter turns Advance frames into progress.
type floorMeter struct {
	r        block.Range
	progress func(n int64)
	trace    *tracer
	done     int64 // bytes reported
}

func (m *floorMeter) take(f *wire.Frame) error {
	var a wire.Advance
	if err := f.Decode(&a); err != nil {
		return err
	}
	if a.Settled > m.r.Extents() {
		return errors.New("protocol error: the sender settled more extents than there are")
	}
	n := min(a.Settled*block.ExtentSize, m.r.Length)
	if n < m.done {
		return errors.New("protocol error: the sender took back extents that were settled")
	}
	m.trace.settle(a.Settled)
	m.progress(n - m.done)
	m.done = n
	return nil
}

// patchMeter checks the patches that pass, and tells what is in them.
type patchMeter struct {
	r     block.Range
	dry   bool
	moved func(data, zeroed int64) // nil when nobody wants to know
	trace *tracer
	patch wire.Patch // of the last frame, without its data
}

// take refuses a patch without its data in a transfer, and one with data in a
// comparison.
func (m *patchMeter) take(f *wire.Frame) error {
	encoding, err := f.PatchEncoding()
	if err == nil && m.dry != (encoding == wire.EncodingNone) {
		err = fmt.Errorf("protocol error: the sender sent a patch of encoding %d", encoding)
	}
	if err != nil || m.moved == nil && m.trace == nil {
		return err
	}
	if err := f.Decode(&m.patch); err != nil {
		return err
	}
	m.patch.Data = nil // it goes with the frame
	if m.patch.Extent >= m.r.Extents() {
		return errors.New("protocol error: the sender sent an extent that is not of the range")
	}
	m.trace.patch(&m.patch)
	if m.moved == nil {
		return nil
	}
	_, length := m.r.Extent(m.patch.Extent)
	var data, zeroed int64
	for _, run := range m.patch.Runs {
		first := int(run.First) * m.r.BlockSize
		n := int64(max(0, min(int(run.Count)*m.r.BlockSize, length-first)))
		if run.Zero {
			zeroed += n
		} else {
			data += n
		}
	}
	m.moved(data, zeroed)
	return nil
}
