package device

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nextData is [Object.Data] for a file.
func nextData(f *os.File, off, end int64) (start, stop int64, err error) {
	err = withFD(f, func(fd uintptr) error {
		if start, err = unix.Seek(int(fd), off, unix.SEEK_DATA); err != nil {
			return err
		}
		stop, err = unix.Seek(int(fd), start, unix.SEEK_HOLE)
		return err
	})
	switch {
	case errors.Is(err, unix.ENXIO): // no data behind off
		return end, end, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return off, end, nil
	case err != nil:
		return 0, 0, err
	}
	return min(start, end), min(stop, end), nil
}

// zeroStep bounds one call into the kernel, which cannot be interrupted.
const zeroStep = 1 << 30

// punch zeroes a range whose ends are multiples of the sector, and frees it
// where that is possible. It returns errNoPunch where zeros must be written;
// part of the range may be zero by then.
func (o *Object) punch(off, n int64) error {
	if o.thin.chunk > 0 {
		return o.punchThin(off, n)
	}
	for n > 0 {
		step := min(n, zeroStep)
		if err := o.punchStep(off, step); err != nil {
			return err
		}
		off, n = off+step, n-step
	}
	return nil
}

func (o *Object) punchStep(off, n int64) error {
	if !o.noPunch.Load() {
		err := o.hole(off, n)
		if errors.Is(err, unix.EBUSY) {
			// The page cache of a device that another descriptor claims can only
			// be dropped when it is clean, which is so for every follower.
			err = o.flush(off, n)
			if err == nil {
				err = o.hole(off, n)
			}
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			o.noPunch.Store(true)
		case !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINVAL):
			return err
		}
	}
	if o.info.Kind != Block || o.noZeroOut.Load() {
		return errNoPunch
	}
	err := o.zeroOut(off, n)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY):
		o.noZeroOut.Store(true)
		return errNoPunch
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EINVAL):
		return errNoPunch
	}
	return err
}

// hole frees a range. On a device the kernel promises zeros or EOPNOTSUPP,
// which a discard does not.
func (o *Object) hole(off, n int64) error {
	return withFD(o.f, func(fd uintptr) error {
		return unix.Fallocate(int(fd), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

func (o *Object) zeroOut(off, n int64) error {
	arg := [2]uint64{uint64(off), uint64(n)}
	return withFD(o.f, func(fd uintptr) error {
		_, _, no := unix.Syscall(unix.SYS_IOCTL, fd, unix.BLKZEROOUT, uintptr(unsafe.Pointer(&arg)))
		if no != 0 {
			return no
		}
		return nil
	})
}

// flush writes the dirty pages of a range out. It makes nothing durable.
func (o *Object) flush(off, n int64) error {
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	return withFD(o.f, func(fd uintptr) error { return unix.SyncFileRange(int(fd), off, n, all) })
}
