package recovery

import (
	"cmp"
	"slices"
	"sort"
)

// Kept is a target whose writes wait until what they overwrite is in the log,
// durably: a group of them at a time, so that there is one sync for many. What
// waits is not read by its reader again before Sync.
type Kept struct {
	Device
	undo  *Undo
	wait  []write
	bytes int64 // in wait
}

// write is one that waits.
type write struct {
	span
	data []byte // nil for zeros
}

// Keep is dev with its writes kept in u. What dev reads may lie behind its size, up
// to the size it had before: pages are kept whole.
func (u *Undo) Keep(dev Device) *Kept { return &Kept{Device: dev, undo: u} }

// WriteAt takes p to be written.
func (k *Kept) WriteAt(p []byte, off int64) (int, error) {
	if err := k.limit(off); err != nil {
		return 0, err
	}
	n := int64(len(p))
	k.wait = append(k.wait, write{span{off, off + n}, k.undo.hold(p)})
	k.bytes += n
	return len(p), nil
}

// Zero takes a range to become zero.
func (k *Kept) Zero(off, n int64) error {
	if err := k.limit(off); err != nil {
		return err
	}
	k.wait = append(k.wait, write{span{off, off + n}, nil})
	k.bytes += n
	return nil
}

// limit writes what waits, when it is much, before a write at off is taken. The writes of
// one page come one after the other and are never in two groups, so the log has what all
// of them lead to.
func (k *Kept) limit(off int64) error {
	if k.bytes < groupSize {
		return nil
	}
	if last := k.wait[len(k.wait)-1]; off/pageSize == (last.to-1)/pageSize {
		return nil
	}
	return k.flush()
}

// Sync makes all that was written durable.
func (k *Kept) Sync() error {
	if err := k.flush(); err != nil {
		return err
	}
	return k.Device.Sync()
}

// flush keeps what is about to be overwritten, then overwrites it.
func (k *Kept) flush() error {
	if len(k.wait) == 0 {
		return nil
	}
	if err := k.undo.locked(k.keep); err != nil {
		return err
	}
	for _, w := range k.wait {
		var err error
		if w.data == nil {
			err = k.Device.Zero(w.from, w.to-w.from)
		} else {
			_, err = k.Device.WriteAt(w.data, w.from)
		}
		if err != nil {
			return err
		}
		At("wrote", k.undo.log)
	}
	clear(k.wait)
	k.wait, k.bytes = k.wait[:0], 0
	k.undo.held = k.undo.held[:0]
	return nil
}

// keep appends to the log what the pages of all writes hold.
func (k *Kept) keep() error {
	u := k.undo
	u.buf = u.buf[:0]
	slices.SortFunc(k.wait, func(a, b write) int { return cmp.Compare(a.from, b.from) }) // none touches another
	for _, s := range k.spans() {
		if err := u.keep(k.Device, s, k.overlay); err != nil {
			return err
		}
	}
	return u.flush()
}

// spans are the ranges of whole pages that the writes touch, in order and not
// touching each other.
func (k *Kept) spans() (all []span) {
	for _, w := range k.wait {
		s := span{w.from / pageSize * pageSize, (w.to + pageSize - 1) / pageSize * pageSize}
		all = append(all, s)
	}
	joined := all[:0]
	for _, s := range all {
		if last := len(joined) - 1; last >= 0 && s.from <= joined[last].to {
			joined[last].to = max(joined[last].to, s.to)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// overlay changes b, bytes of the device from an offset on, as the writes will.
func (k *Kept) overlay(b []byte, from int64) {
	s := span{from, from + int64(len(b))}
	first := sort.Search(len(k.wait), func(i int) bool { return k.wait[i].to > s.from })
	for _, w := range k.wait[first:] {
		if w.from >= s.to {
			break
		}
		lo, hi := max(w.from, s.from), min(w.to, s.to)
		if w.data == nil {
			clear(b[lo-from : hi-from])
		} else {
			copy(b[lo-from:hi-from], w.data[lo-w.from:hi-w.from])
		}
	}
}
