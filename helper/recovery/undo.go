package recovery

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Undo is the log of a transfer to one target, open in one of its sessions. It is
// for one goroutine.
type Undo struct {
	found
	enc *compress.Encoder
	buf []byte // records to append
	old []byte // what is read of the target
	pay []byte // of one record

	held []byte // of the writes that wait, one behind the other, since the last flush
}

// Earlier is what Begin has found of a transfer that was interrupted.
type Earlier struct {
	Resumed bool   // its log is gone on with
	Differs error  // why it is not: the target is not what it has left; nil otherwise
	Log     string // where its log is
}

// Begin opens the log of a target that is about to be written, before anything of
// it is changed. The one that the same transfer has begun is gone on with, and so is
// that of an interrupted one when dev, the target as it is, holds what that has left;
// a complete one stays as it is, and a new one is begun. A zero token is no transfer.
func Begin(ctx context.Context, dir string, s Subject, token Token, dev Device) (u *Undo, e Earlier, err error) {
	if s.Begun.IsZero() {
		s.Begun = time.Now()
	}
	f, err := newest(dir, undoSuffix, &s)
	switch {
	case errors.Is(err, ErrNone):
	case err != nil:
		return nil, e, err
	case f.state == stateUndoing:
		f.log.close()
		return nil, e, fmt.Errorf("%s: %w: run the undo of %s again first", s.Path, ErrUndoing, f.log.path)
	case f.state == stateOpen && f.token == token && token != Token{}:
		u, err = reopened(f)
		return u, e, err
	case f.state == stateOpen:
		e.Log = f.log.path
		u, err = resume(ctx, f, token, dev)
		if !errors.Is(err, ErrDiffers) {
			e.Resumed = err == nil
			return u, e, err
		}
		e.Differs = err
	default:
		f.log.close()
	}
	u, err = begin(dir, s, token)
	return u, e, err
}

// resume opens the log of an interrupted transfer. It is ErrDiffers when somebody else
// has written to the target since: what the log has would not be what the next
// transfer overwrites.
func resume(ctx context.Context, f *found, token Token, dev Device) (*Undo, error) {
	r, err := restoreOf(f, func(int64) error { return nil })
	if err != nil {
		return nil, err
	}
	if err := r.left(ctx, dev); err != nil {
		r.Close()
		return nil, err
	}
	u := newUndo(&r.found)
	err = u.locked(func() error {
		if err := u.log.rewrite(); err != nil || token == (Token{}) {
			return err
		}
		return u.log.append(appendRecord(nil, &record{kind: kindTransfer, payload: token[:]}, u.log.durable))
	})
	if err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

// reopened is the log of a transfer that goes on, in another process than before or beside
// others.
func reopened(f *found) (*Undo, error) {
	u := newUndo(f)
	if err := u.locked(u.log.rewrite); err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

// begin makes a log.
func begin(dir string, s Subject, token Token) (*Undo, error) {
	l, err := openLog(filepath.Join(dir, fileName(&s, undoSuffix)), os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, full(dir, err)
	}
	u := newUndo(&found{log: l, kept: pages{}})
	At("created", l)
	err = l.add(&record{kind: kindBegin, n: s.Size, payload: appendSubject(nil, &s)})
	if err == nil && token != (Token{}) {
		err = l.add(&record{kind: kindTransfer, payload: token[:]})
	}
	if err == nil {
		err = syncDir(l.path)
	}
	if err == nil {
		u.log.end = 0
		err = u.follow(nil)
	}
	if err != nil {
		l.close()
		_ = os.Remove(l.path)
		return nil, err
	}
	return u, nil
}

// Join opens the log that another session of the same transfer has begun.
func Join(dir string, s Subject) (*Undo, error) {
	f, err := newest(dir, undoSuffix, &s)
	if err != nil {
		return nil, err
	}
	if f.state != stateOpen {
		f.log.close()
		return nil, fmt.Errorf("%s: %w, of a transfer that runs, is in %s", s.Path, ErrNone, dir)
	}
	return reopened(f)
}

func newUndo(f *found) *Undo {
	return &Undo{found: *f, enc: compress.NewEncoder(wire.CompressZstd), old: make([]byte, 2*block.ExtentSize)}
}

// hold copies p for a write that waits.
func (u *Undo) hold(p []byte) []byte {
	if from := len(u.held); cap(u.held)-from >= len(p) {
		u.held = append(u.held, p...)
		return u.held[from:]
	}
	u.held = append(make([]byte, 0, max(groupSize+block.ExtentSize, int64(len(p)))), p...) // what waits keeps the one before
	return u.held
}

// Close ends this session's use of the log.
func (u *Undo) Close() error { return u.log.close() }

// locked calls do with the lock held and all that others have appended read, then
// makes durable what it appended.
func (u *Undo) locked(do func() error) error {
	if err := u.log.lock(); err != nil {
		return err
	}
	err := func() error {
		defer u.log.unlock()
		if err := u.follow(nil); err != nil {
			return err
		}
		if u.torn { // nothing was overwritten after it
			if err := u.log.f.Truncate(u.log.end); err != nil {
				return err
			}
		}
		return do()
	}()
	if err != nil {
		return err
	}
	At("appended", u.log)
	if err := u.log.sync(); err != nil {
		return err
	}
	At("synced", u.log)
	return nil
}

// keep puts what s holds into the log, where it is not in it; next gives the bytes
// it is about to get, in place of those that it has.
func (u *Undo) keep(dev Device, s span, next func(old []byte, from int64)) error {
	return u.kept.runs(s, func(part span, in bool) error {
		if in {
			u.buf = appendRecord(u.buf, &record{kind: kindRewritten, off: part.from, n: part.to - part.from}, u.log.durable)
			return nil
		}
		part.to = min(part.to, u.subject.Size) // behind it nothing was
		for ; part.from < part.to; part.from += block.ExtentSize {
			if err := u.keepPiece(dev, span{part.from, min(part.from+block.ExtentSize, part.to)}, next); err != nil {
				return err
			}
		}
		return nil
	})
}

func (u *Undo) keepPiece(dev Device, s span, next func(old []byte, from int64)) error {
	n := int(s.to - s.from)
	if n <= 0 {
		return nil
	}
	old, now := u.old[:n], u.old[block.ExtentSize:][:n]
	if err := readFull(dev, old, s.from); err != nil {
		return err
	}
	copy(now, old)
	next(now, s.from)
	r := record{kind: kindOld, encoding: wire.EncodingNone, off: s.from, n: int64(n), payload: appendSums(u.pay[:0], now)}
	if !block.IsZero(old) {
		var data []byte
		r.encoding, data = u.enc.Encode(old)
		r.payload = append(r.payload, data...)
	}
	u.pay = r.payload
	u.buf = appendRecord(u.buf, &r, u.log.durable)
	return nil
}

// appendSums appends the sums of the sectors of data. A crash in the middle of a
// write leaves some of them as they were.
func appendSums(b, data []byte) []byte {
	for len(data) > 0 {
		n := min(len(data), sectorSize)
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(data[:n], castagnoli))
		data = data[n:]
	}
	return b
}

// KeepTail keeps the bytes from off to the end that the target had, which are
// about to be cut.
func (u *Undo) KeepTail(dev Device, off int64) error {
	cut := func(b []byte, from int64) { clear(b[min(max(off-from, 0), int64(len(b))):]) }
	for from := off / pageSize * pageSize; from < u.subject.Size; from += groupSize {
		s := span{from, min(from+groupSize, u.subject.Size)}
		err := u.locked(func() error {
			u.buf = u.buf[:0]
			if err := u.keep(dev, s, cut); err != nil {
				return err
			}
			if from < off { // that page is the end of what was written, and is cut as well
				u.buf = appendRecord(u.buf, &record{kind: kindRewritten, off: from, n: off - from}, u.log.durable)
			}
			return u.flush()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// flush appends the records in buf. The pages are marked when they are read back.
func (u *Undo) flush() error {
	if len(u.buf) == 0 {
		return nil
	}
	from := u.log.end
	if err := u.log.append(u.buf); err != nil {
		return err
	}
	u.log.end = from
	return u.follow(nil)
}

// Complete notes that range r of the target now has that root, durably.
func (u *Undo) Complete(r block.Range, root block.Digest) error {
	payload := append(binary.BigEndian.AppendUint32(nil, uint32(r.BlockSize)), root[:]...)
	return u.locked(func() error {
		return u.log.append(appendRecord(nil, &record{kind: kindRange, off: r.Offset, n: r.Length, payload: payload}, u.log.durable))
	})
}

// End notes that the transfer is complete, and the target has size bytes. The log of one
// that has changed nothing is removed: an undo is to lead back over one that did.
func (u *Undo) End(size int64) error {
	err := u.locked(func() error {
		if u.unchanged(size) {
			return nil
		}
		return u.log.append(appendRecord(nil, &record{kind: kindEnd, n: size}, u.log.durable))
	})
	if err != nil || !u.unchanged(size) {
		return err
	}
	u.Close()
	At("unchanged", u.log)
	if err := os.Remove(u.log.path); err != nil {
		return err
	}
	return syncDir(u.log.path)
}

func (u *Undo) unchanged(size int64) bool { return len(u.kept) == 0 && size == u.subject.Size }
