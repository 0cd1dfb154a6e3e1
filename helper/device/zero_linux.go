package device

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nextData is where a file may have data from off on; end when there is none.
func nextData(f *os.File, off, end int64) (start int64, err error) {
	err = withFD(f, func(fd uintptr) error {
		start, err = unix.Seek(int(fd), off, unix.SEEK_DATA)
		return err
	})
	switch {
	case errors.Is(err, unix.ENXIO):
		return end, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return off, nil
	}
	return start, err
}

// zeroUnit is what the ends of a range must be multiples of to be zeroed by the system. On a device that is a page: of
// one that the range shares with others the kernel zeroes its part in memory, so that reading back would prove nothing.
func (o *Object) zeroUnit() int64 {
	if o.info.Kind == Block && o.thin.chunk == 0 {
		return int64(max(o.info.BlockSize, os.Getpagesize()))
	}
	return int64(o.info.BlockSize)
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
		case err == nil && o.info.Kind == Block:
			return o.ensureZero(off, n, freedPiece)
		case err == nil:
			return nil
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			o.noPunch.Store(true)
		case !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINVAL):
			return err
		}
	}
	if o.info.Kind != Block || o.noZeroOut.Load() || o.zero == ZeroPunch {
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

// freedPiece is the unit in bytes in which a device's own zeroing is looked at. Disks that free space by it are known to
// forget the ends of a range, where these lie within one of their units.
const freedPiece = 64 << 10

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

// reserve gives a file space for its first size bytes, so that it has no holes.
func (o *Object) reserve(size int64) error {
	if size == 0 {
		return nil
	}
	if err := o.hasRoom(size); err != nil {
		return err
	}
	err := withFD(o.f, func(fd uintptr) error { return unix.Fallocate(int(fd), unix.FALLOC_FL_KEEP_SIZE, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		o.note(o.path + ": its file system cannot reserve space, so what is zero at both ends takes none")
		return nil
	}
	return reserveFailed(o.path, err)
}

// reserveFailed names what is there when the file system ended in the middle.
func reserveFailed(path string, err error) error {
	if kindOf(err) != ErrNoSpace {
		return fail("reserve space for", path, err)
	}
	return &Error{Op: "reserve space for", Path: path, Offset: -1, Kind: ErrNoSpace, Err: err,
		Text: "there was space for a part of it only; nothing was written, but an image that was there may keep what it has got"}
}

// hasRoom refuses a file that could not be given all its space: to try would fill the file system, and give an image that
// exists part of it for good. What the file has behind size counts as if it were before.
func (o *Object) hasRoom(size int64) error {
	u, err := usage(o.path)
	if err != nil || u.Total == 0 { // it does not say
		return nil
	}
	free := u.Available
	if os.Geteuid() == 0 {
		free = u.Free
	}
	if need := size - max(o.info.Allocated, 0); need > free {
		return refuse(ErrNoSpace, "open", o.path, "zero = write gives it all its space at once, which is %d bytes more, and its file system has %d; zero = auto takes what its data needs", need, free)
	}
	return nil
}

// cannotFree tells why no space can be freed, as far as that shows before anything is written; else it is empty.
func (o *Object) cannotFree() string {
	if o.info.Kind == File {
		const far = 1 << 20
		behind := (o.info.Size + far - 1) / far * far // nothing is there to be freed
		if o.hole(behind, far) != nil {
			return "its file system has no holes"
		}
		return ""
	}
	n, _ := deviceNumber(o.info.ID)
	dir, err := host.dir(n)
	if isPartition(dir) {
		dir = filepath.Dir(dir)
	}
	switch {
	case err != nil:
		return "the kernel tells nothing of it"
	case o.thin.chunk > 0 && integer(dir, "queue/discard_max_bytes") > 0:
		return ""
	}
	return cannotFree(dir)
}

// cannotFree is that for the device with this sysfs directory: it and all below it must zero ranges by freeing them.
func cannotFree(dir string) string {
	if isPartition(dir) { // one below a volume
		dir = filepath.Dir(dir)
	}
	if integer(dir, "queue/write_zeroes_max_bytes") == 0 {
		return filepath.Base(dir) + " knows no request that frees space and gives zeros"
	}
	modes, _ := filepath.Glob(filepath.Join(dir, "device/scsi_disk/*/zeroing_mode"))
	for _, mode := range modes {
		if !strings.HasSuffix(text(mode), "_unmap") {
			return filepath.Base(dir) + " promises no zeros where it frees space"
		}
	}
	below, _ := filepath.Glob(filepath.Join(dir, "slaves/*"))
	for _, link := range below {
		real, err := filepath.EvalSymlinks(link)
		if err != nil {
			continue
		}
		if why := cannotFree(real); why != "" {
			return why
		}
	}
	return ""
}
