package device

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A volume of a thin pool cannot be told to zero a range: the kernel has no such request for it, and writing zeros
// takes space. What it promises instead is that a chunk without space reads as zeros, and that a discard of a whole
// chunk takes its space away. No other discard promises anything, so this is for volumes of which the device mapper
// itself says that they are thin, and that no other device shows through where they have no space.

// Some SCSI disks are like that: they promise zeros where they free space, but the kernel has no request for them that
// does both.

// thin is what an [Object] on a thin volume needs to free space, and to know where it has none.
type thin struct {
	chunk int64 // bytes that are discarded at once, 0 where a discard promises nothing

	mu     sync.Mutex
	filled map[int64]bool // chunks that Zero could not free since they were not zeroed whole; hold mu

	looked   bool                        // for holes; owned by FindHoles, like received
	received span                        // what was written since the last call
	mapping  atomic.Pointer[thinMapping] // nil when no holes are known
}

// findThin prepares o, a device, for freeing space, and refuses what is on a pool that gives out old data.
func (o *Object) findThin() error {
	n, _ := deviceNumber(o.info.ID)
	dir, err := host.dir(n)
	if err != nil {
		return fail("open", o.path, err)
	}
	if err := host.refuseStale(o.path, dir); err != nil {
		return err
	}
	switch v, ok := host.thinVolume(n); {
	case !ok:
		o.thin.chunk = host.unmapUnit(o.info.ID)
	case !v.origin:
		o.thin.chunk = v.granularity
	}
	return nil
}

// punchThin zeroes a range: chunks that lie in it whole are freed, the rest is written.
func (o *Object) punchThin(off, n int64) error {
	end, chunk := off+n, o.thin.chunk
	lo, hi := (off+chunk-1)/chunk*chunk, end/chunk*chunk
	if lo >= hi {
		lo, hi = end, end
	} else if err := o.discard(lo, hi-lo); err != nil {
		return err
	}
	if err := o.fill(off, lo); err != nil {
		return err
	}
	return o.fill(hi, end)
}

// fill writes zeros to a range that begins or ends within a chunk, and keeps its chunks in mind.
func (o *Object) fill(from, to int64) error {
	if from >= to {
		return nil
	}
	o.thin.mu.Lock()
	if o.thin.filled == nil {
		o.thin.filled = map[int64]bool{}
	}
	for i := from / o.thin.chunk; i <= (to-1)/o.thin.chunk; i++ {
		o.thin.filled[i] = true
	}
	o.thin.mu.Unlock()
	return o.writeZeros(from, to-from)
}

// discard frees whole chunks and makes them read as zeros. What the kernel did shows in a read: it passes over chunks
// that it has split between requests, as it does where their size is no power of two, and then they are as before.
func (o *Object) discard(off, n int64) error {
	arg := [2]uint64{uint64(off), uint64(n)}
	call := func() error {
		return withFD(o.f, func(fd uintptr) error {
			if _, _, no := unix.Syscall(unix.SYS_IOCTL, fd, unix.BLKDISCARD, uintptr(unsafe.Pointer(&arg))); no != 0 {
				return no
			}
			return nil
		})
	}
	err := call()
	if errors.Is(err, unix.EBUSY) { // dirty pages of a follower, see punchStep
		if err = o.flush(off, n); err == nil {
			err = call()
		}
	}
	refused := errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EOPNOTSUPP)
	switch {
	case refused && o.zero == ZeroPunch:
		return errNoPunch
	case err != nil && !refused:
		return err
	}
	return o.ensureZero(off, n, max(o.thin.chunk, freedPiece))
}

// Reclaim frees the space of what was zeroed in n bytes at off piece by piece, where nothing but zeros is left in a
// unit of allocation. It reads those units. Nobody else may write to the range meanwhile. What it freed is durable when
// it returns: the pool may have told its disk to forget the space, while what it says of it is still in memory.
func (o *Object) Reclaim(ctx context.Context, off, n int64) error {
	freed := false
	for _, i := range o.thin.within(off, off+n) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		at := i * o.thin.chunk
		empty, err := o.isZero(at, o.thin.chunk)
		if err == nil && empty {
			err, freed = o.discard(at, o.thin.chunk), true
			o.touched()
		}
		if err != nil {
			return o.failZero(at, err)
		}
	}
	if freed {
		return o.Sync()
	}
	return nil
}

// within takes out the chunks that lie in a range whole.
func (t *thin) within(off, end int64) []int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []int64
	for i := range t.filled {
		if i*t.chunk >= off && (i+1)*t.chunk <= end {
			found = append(found, i)
			delete(t.filled, i)
		}
	}
	return found
}
