package recovery

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"slices"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Restore is the bringing back of a target. Check comes first, then Begin, Write
// and End, each of which may be done again after a crash.
type Restore struct {
	found
	complete []complete // ranges of which the root is known
	loose    pages      // written more than once
	dec      compress.Decoder
	progress func(done int64) error

	Force bool // whatever is there is written over

	Kept    int64 // bytes in the log
	Written int64 // bytes that were written back
	buf     []byte
}

// complete is a range of the target that is done.
type complete struct {
	r    block.Range
	root block.Digest
}

// Find opens the newest log of a target in dir. progress is called while it works,
// with the bytes done.
func Find(dir string, s Subject, progress func(done int64) error) (*Restore, error) {
	f, err := newest(dir, undoSuffix, &s)
	if err != nil {
		return nil, err
	}
	return restoreOf(f, progress)
}

// restoreOf reads the ranges of a log, which it closes when it fails.
func restoreOf(f *found, progress func(done int64) error) (*Restore, error) {
	r := &Restore{found: *f, loose: pages{}, progress: progress, buf: make([]byte, block.ExtentSize)}
	err := r.each(func(rec *record) error {
		switch rec.kind {
		case kindOld, kindRewritten: // what was complete before is so no more
			s := rec.span()
			r.complete = without(r.complete, s)
			if rec.kind == kindRewritten {
				r.loose.add(s)
			} else {
				r.Kept += rec.n
			}
		case kindRange:
			c, err := decodeRange(rec)
			if err != nil {
				return fmt.Errorf("%s: %w", r.log.path, err)
			}
			r.complete = without(r.complete, spanOf(c.r))
			if c.r.Length > 0 {
				r.complete = append(r.complete, c)
			}
		}
		return nil
	})
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// without is all but what meets s.
func without(all []complete, s span) []complete {
	return slices.DeleteFunc(all, func(c complete) bool { return s.meets(spanOf(c.r)) })
}

func spanOf(r block.Range) span { return span{r.Offset, r.Offset + r.Length} }

func decodeRange(rec *record) (c complete, err error) {
	if len(rec.payload) != 4+len(c.root) {
		return c, ErrDamaged
	}
	size := int(binary.BigEndian.Uint32(rec.payload))
	if block.CheckSize(size) != nil {
		return c, ErrDamaged
	}
	return complete{block.Range{Offset: rec.off, Length: rec.n, BlockSize: size}, block.Digest(rec.payload[4:])}, nil
}

// each calls do with all records.
func (r *Restore) each(do func(*record) error) error {
	r.log.end = 0
	return r.follow(do)
}

// Close ends it.
func (r *Restore) Close() error {
	r.dec.Release()
	return r.log.close()
}

// Log is the file of the log.
func (r *Restore) Log() string { return r.log.path }

// Notices are what there is to say of its directory.
func (r *Restore) Notices() []string { return r.skipped }

// Subject is the target as the log has it.
func (r *Restore) Subject() Subject { return *r.subject }

// Begun tells that an earlier run has begun to write back.
func (r *Restore) Begun() bool { return r.state == stateUndoing }

// Ended tells that the transfer was complete.
func (r *Restore) Ended() bool { return r.state == stateEnded }

// Check reads what the transfer has written, and compares it with what the log
// says of it: all of the ranges that were completed, and of the others what was
// about to be overwritten. It is ErrDiffers when anybody else has written there.
func (r *Restore) Check(ctx context.Context, dev Device) error {
	if !r.subject.File && dev.Size() != r.subject.Size {
		return fmt.Errorf("%s: %w: it has %d bytes, and had %d", r.subject.Path, ErrDiffers, dev.Size(), r.subject.Size)
	}
	if r.state == stateEnded && dev.Size() != r.size {
		return fmt.Errorf("%s: %w: it has %d bytes, and had %d after the copy", r.subject.Path, ErrDiffers, dev.Size(), r.size)
	}
	done := int64(0)
	if !r.Begun() && !r.Force {
		for _, c := range r.complete {
			at := spanOf(c.r)
			if at.to > dev.Size() {
				return r.differs(at)
			}
			root, err := delta.Root(ctx, dev, c.r, func(n int64) error { return r.progress(done + n) })
			if err != nil {
				return err
			}
			if root != c.root {
				return r.differs(at)
			}
			done += c.r.Length
		}
	}
	return r.each(func(rec *record) error {
		if rec.kind != kindOld || !r.Begun() && r.isComplete(rec.span()) {
			return nil
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		done += rec.n
		if err := r.progress(done); err != nil {
			return err
		}
		_, err := r.compare(dev, rec)
		return err
	})
}

// left is Check of a target that an interrupted transfer may have left. An image may
// have another size only for a reason that the log has, or it is another image.
func (r *Restore) left(ctx context.Context, dev Device) error {
	if err := r.Check(ctx, dev); err != nil {
		return err
	}
	// Else nothing tells a longer image from another; one that was cut has all of its end here.
	known := r.Kept > 0 || len(r.complete) > 0
	for at := dev.Size() / pageSize * pageSize; at < r.subject.Size; at += pageSize {
		known = known && r.kept.has(at)
	}
	if dev.Size() != r.subject.Size && !known {
		return fmt.Errorf("%s: %w: it has %d bytes, and had %d", r.subject.Path, ErrDiffers, dev.Size(), r.subject.Size)
	}
	return nil
}

func (r *Restore) isComplete(s span) bool {
	return slices.ContainsFunc(r.complete, func(c complete) bool { o := spanOf(c.r); return o.from <= s.from && s.to <= o.to })
}

func (r *Restore) differs(s span) error {
	return fmt.Errorf("%s: %w: bytes %d to %d are neither what the copy wrote nor what was there before: somebody else has written to it since", r.subject.Path, ErrDiffers, s.from, s.to)
}

// old is what rec keeps, nil for zeros.
func (r *Restore) old(rec *record) ([]byte, error) {
	damaged := fmt.Errorf("%s: %w: what bytes %d to %d held cannot be read", r.log.path, ErrDamaged, rec.off, rec.off+rec.n)
	sums := sumsOf(rec.n)
	if rec.n <= 0 || rec.n > block.ExtentSize || len(rec.payload) < sums {
		return nil, damaged
	}
	data := rec.payload[sums:]
	if rec.encoding == wire.EncodingNone {
		return nil, nil
	}
	data, err := r.dec.Decode(rec.encoding, data, int(rec.n))
	if err != nil || int64(len(data)) != rec.n {
		return nil, damaged
	}
	return data, nil
}

// compare reads the range of rec. It is same when that is what it held before, and
// ErrDiffers when it is not what the transfer wrote either.
func (r *Restore) compare(dev Device, rec *record) (same bool, err error) {
	old, err := r.old(rec)
	if err != nil {
		return false, err
	}
	if rec.off+rec.n > dev.Size() {
		return false, nil // was cut, or is not yet long enough again
	}
	now := r.buf[:rec.n]
	if err := readFull(dev, now, rec.off); err != nil {
		return false, err
	}
	same = true
	for i := 0; i < len(now); i += sectorSize {
		sector := now[i:min(i+sectorSize, len(now))]
		was := zeroSector[:len(sector)]
		if old != nil {
			was = old[i:][:len(sector)]
		}
		if bytes.Equal(was, sector) {
			continue
		}
		same = false
		wrote := binary.BigEndian.Uint32(rec.payload[i/sectorSize*4:])
		if crc32.Checksum(sector, castagnoli) != wrote && !r.Force && !r.loose.has(rec.off+int64(i)) {
			return false, r.differs(span{rec.off + int64(i), rec.off + int64(i+len(sector))})
		}
	}
	return same, nil
}

var zeroSector [sectorSize]byte

// sumsOf is how many bytes the sums of n bytes take.
func sumsOf(n int64) int { return int((n + sectorSize - 1) / sectorSize * 4) }

// Begin notes that the writing back begins: from now on the target is neither in
// the state before the transfer nor in that after it.
func (r *Restore) Begin() error {
	if err := r.log.lock(); err != nil {
		return err
	}
	defer r.log.unlock()
	if err := r.each(nil); err != nil { // to the end, behind which it is appended
		return err
	}
	if r.torn {
		if err := r.log.f.Truncate(r.log.end); err != nil {
			return err
		}
	}
	if err := r.log.rewrite(); err != nil {
		return err
	}
	if r.Begun() {
		return r.log.sync()
	}
	return r.log.add(&record{kind: kindUndoing})
}

// Write writes back what the target held, and makes it durable. What is there
// already is not written again.
func (r *Restore) Write(ctx context.Context, dev Device) error {
	done := int64(0)
	err := r.each(func(rec *record) error {
		if rec.kind != kindOld {
			return nil
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		same, err := r.compare(dev, rec)
		if err != nil {
			return err
		}
		done += rec.n
		if same {
			return r.progress(done)
		}
		old, err := r.old(rec)
		if err != nil {
			return err
		}
		if old == nil {
			err = dev.Zero(rec.off, rec.n)
		} else {
			_, err = dev.WriteAt(old, rec.off)
		}
		if err != nil {
			return err
		}
		r.Written += rec.n
		At("restored", r.log)
		return r.progress(done)
	})
	if err != nil {
		return err
	}
	return dev.Sync()
}

// End removes the log: the target is what it was.
func (r *Restore) End() error {
	At("complete", r.log)
	if err := os.Remove(r.log.path); err != nil {
		return err
	}
	At("removed", r.log)
	return syncDir(r.log.path)
}
