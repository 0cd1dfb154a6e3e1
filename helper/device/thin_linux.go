package device

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A volume of a thin pool cannot be told to zero a range: the kernel has no such request for it, and writing zeros
// takes space. What it promises instead is that a chunk without space reads as zeros, and that a discard of a whole
// chunk takes its space away. No other discard promises anything, so this is for volumes of which the device mapper
// itself says that they are thin, and that no other device shows through where they have no space.

// thin is what an [Object] on a thin volume needs to free space.
type thin struct {
	chunk int64 // bytes, 0 for what is no thin volume

	mu     sync.Mutex
	filled map[int64]bool // chunks that Zero could not free since they were not zeroed whole; hold mu
}

// findThin prepares o, a device, for freeing space. It refuses volumes that give out chunks with old data of others
// in them: a write of one block would change the rest of its chunk, which the transfer has read and found equal.
func (o *Object) findThin() error {
	n, ok := parseNumber(strings.TrimPrefix(o.info.ID, "b:"))
	dir, err := host.dir(n)
	if _, noMapper := os.Stat(filepath.Join(dir, "dm")); !ok || err != nil || noMapper != nil {
		return nil
	}
	table, err := dmTable(n)
	if err != nil || len(table) != 1 || table[0].kind != "thin" {
		return nil // without the right to ask, zeros are written
	}
	pool, ok := parseNumber(table[0].words[0])
	if !ok {
		return nil
	}
	parent, err := dmTable(pool)
	if err != nil || len(parent) != 1 || parent[0].kind != "thin-pool" {
		return nil
	}
	for _, word := range parent[0].words {
		if word == "skip_block_zeroing" {
			return refuse(ErrRefused, "open", o.path, "its thin pool does not zero the space it gives out, so what is not written would not read as zeros: switch that on, with lvchange --zero y for the pool")
		}
	}
	if len(table[0].words) == 2 { // a third one is a device that shows through
		o.thin.chunk = integer(dir, "queue/discard_granularity")
	}
	return nil
}

// target is one line of a table of the device mapper.
type target struct {
	kind  string
	words []string // at least one
}

// dmTable asks the device mapper what a device consists of.
func dmTable(n number) ([]target, error) {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	buf := make([]uint64, 16<<10/8) // aligned as the kernel wants it
	head := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
	head.Version = [3]uint32{4, 0, 0}
	head.Data_size = uint32(len(buf) * 8)
	head.Data_start = unix.SizeofDmIoctl
	head.Flags = unix.DM_STATUS_TABLE_FLAG
	head.Dev = uint64(n.minor&0xff) | uint64(n.major)<<8 | uint64(n.minor&^0xff)<<12
	err = withFD(control, func(fd uintptr) error {
		if _, _, no := unix.Syscall(unix.SYS_IOCTL, fd, unix.DM_TABLE_STATUS, uintptr(unsafe.Pointer(head))); no != 0 {
			return no
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if head.Flags&unix.DM_BUFFER_FULL_FLAG != 0 {
		return nil, unix.ENOSPC
	}
	all := unsafe.Slice((*byte)(unsafe.Pointer(&buf[0])), len(buf)*8)
	return parseTable(all[head.Data_start:], int(head.Target_count))
}

// parseTable reads the kernel's list of targets: each has a dm_target_spec, of which the last fields are the offset
// of the next one and the type, and then its parameters as text.
func parseTable(list []byte, count int) ([]target, error) {
	var out []target
	at := 0
	for range count {
		if at < 0 || at > len(list)-unix.SizeofDmTargetSpec {
			return nil, unix.EINVAL
		}
		spec, text := list[at:at+unix.SizeofDmTargetSpec], list[at+unix.SizeofDmTargetSpec:]
		kind, _, _ := bytes.Cut(spec[24:], []byte{0})
		params, _, _ := bytes.Cut(text, []byte{0})
		words := strings.Fields(string(params))
		if len(words) == 0 {
			words = []string{""}
		}
		out = append(out, target{string(kind), words})
		at = int(binary.NativeEndian.Uint32(spec[20:]))
	}
	return out, nil
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
	if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return o.ensureZero(off, n, o.thin.chunk)
}

// Reclaim frees the space of what was zeroed in n bytes at off piece by piece, where nothing but zeros is left in a
// unit of allocation. It reads those units. Nobody else may write to the range meanwhile.
func (o *Object) Reclaim(ctx context.Context, off, n int64) error {
	for _, i := range o.thin.within(off, off+n) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		at := i * o.thin.chunk
		empty, err := o.isZero(at, o.thin.chunk)
		if err == nil && empty {
			err = o.discard(at, o.thin.chunk)
		}
		if err != nil {
			return failAt("zero", o.path, at, err)
		}
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
