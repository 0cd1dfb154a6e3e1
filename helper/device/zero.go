package device

import (
	"bytes"
	"errors"
)

// ZeroMode is how ranges of a target become zero.
type ZeroMode uint8

// The modes.
const (
	ZeroAuto  ZeroMode = iota // space is freed where that is proved to give zeros; else zeros are written
	ZeroWrite                 // zeros are written, and an image file is given all its space at once
	ZeroPunch                 // space is freed, or the target is refused
)

// prepareZero makes ready for the mode: size bytes will be written. It refuses, before the first write, a target that
// cannot do what the mode insists on.
func (o *Object) prepareZero(mode ZeroMode, size int64) error {
	o.zero = mode
	switch {
	case mode == ZeroPunch:
		if why := o.cannotFree(); why != "" {
			return refuse(ErrUnsupported, "open", o.path, "zero = punch, but space cannot be freed: %s; zero = auto writes zeros then", why)
		}
	case mode == ZeroWrite && o.info.Kind == File && !o.follower:
		return o.reserve(size)
	}
	return nil
}

// Zero makes n bytes at off read as zeros. Unless the mode says otherwise it gives the space back where the system
// can: by a hole in a file or device, else by zeroing inside the device, else by writing zeros.
func (o *Object) Zero(off, n int64) error {
	if err := o.within("zero", off, n); err != nil {
		return err
	}
	lo, hi := off, off+n
	if unit := o.zeroUnit(); unit > 1 {
		lo, hi = (lo+unit-1)/unit*unit, hi/unit*unit
	}
	if lo >= hi || o.zero == ZeroWrite {
		return o.writeZeros(off, n)
	}
	err := o.punch(lo, hi-lo)
	o.touched()
	if errors.Is(err, errNoPunch) && o.zero != ZeroPunch {
		return o.writeZeros(off, n)
	}
	if err != nil {
		return o.failZero(lo, err)
	}
	if err := o.writeZeros(off, lo-off); err != nil {
		return err
	}
	return o.writeZeros(hi, off+n-hi)
}

// errNoPunch is how punch asks for zeros to be written instead.
var errNoPunch = errors.New("no way to zero a range")

// failZero is the error for zeroing that failed at a byte. With ZeroPunch a request that the system refuses is one. What
// was taken and still does not read as zeros is written all the same: disks are known to forget the ends of ranges, and
// the target is half done by then.
func (o *Object) failZero(off int64, err error) error {
	if errors.Is(err, errNoPunch) {
		return refuse(ErrUnsupported, "zero", o.path, "zero = punch, but space could not be freed; zero = auto writes zeros then")
	}
	return failAt("zero", o.path, off, err)
}

// zeros is only read; it never costs memory of its own.
var zeros [1 << 20]byte

// zeroPiece is how much space, in bytes, data may cost in a hole behind it.
const zeroPiece = 64 << 10

// writeZeros writes zeros where the range may hold data.
func (o *Object) writeZeros(off, n int64) error {
	for end := off + n; off < end; {
		start, stop, err := o.fileData(off, end, zeroPiece)
		if err != nil {
			return err
		}
		for off = start; off < stop; {
			chunk := zeros[:min(int64(len(zeros)), stop-off)]
			if _, err := o.WriteAt(chunk, off); err != nil {
				return err
			}
			off += int64(len(chunk))
		}
	}
	return nil
}

// ensureZero reads a range that was freed, in pieces, and writes zeros to those that are not zero after all.
func (o *Object) ensureZero(off, n, piece int64) error {
	for end := off + n; off < end; off += piece {
		piece = min(piece, end-off)
		empty, err := o.isZero(off, piece)
		if err == nil && !empty {
			err = o.writeZeros(off, piece)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isZero reads a range until it finds something.
func (o *Object) isZero(off, n int64) (bool, error) {
	buf := make([]byte, min(n, 64<<10))
	for end := off + n; off < end; off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), end-off)]
		if _, err := o.ReadAt(buf, off); err != nil {
			return false, err
		}
		if !bytes.Equal(buf, zeros[:len(buf)]) {
			return false, nil
		}
	}
	return true, nil
}
