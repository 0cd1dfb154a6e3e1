package recovery

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// ErrMissing is a spool that does not have all that it is to be applied for.
var ErrMissing = errors.New("the spool is not complete")

// Token names a transfer: its sessions, also after a lost connection, use one spool.
type Token [16]byte

// Spool is the log of what a target is about to get, of which nothing is written
// before all of it is durable. It is for one goroutine.
type Spool struct {
	found
	enc      *compress.Encoder
	dec      compress.Decoder
	complete []complete
	buf      []byte
}

// Commit is how a target ends that is applied.
type Commit struct {
	Size    int64 // of a file; -1 to keep its own
	ModTime int64 // nanoseconds since 1970, 0 to keep it
}

// OpenSpool opens the spool of a target, whatever state it is in. It is ErrNone when
// there is none.
func OpenSpool(dir string, s Subject) (*Spool, error) {
	f, err := newest(dir, spoolSuffix, &s)
	if err != nil {
		return nil, err
	}
	sp := newSpool(f)
	sp.log.end = 0
	return sp, sp.follow(sp.note)
}

func newSpool(f *found) *Spool {
	return &Spool{found: *f, enc: compress.NewEncoder(wire.CompressZstd)}
}

// BeginSpool opens the spool of a transfer, which goes on with its own and with no
// other: nothing of that was applied. A committed one must have been applied before.
func BeginSpool(dir string, s Subject, token Token, lead bool) (*Spool, error) {
	sp, err := OpenSpool(dir, s)
	switch {
	case errors.Is(err, ErrNone) && lead:
	case err != nil:
		return nil, err
	case sp.Committed():
		sp.Close()
		return nil, fmt.Errorf("%s: %w: %s was not applied to its end", s.Path, ErrUndoing, sp.log.path)
	case sp.token == token:
		return sp, nil
	case !lead:
		sp.Close()
		return nil, fmt.Errorf("%s: %w, of this transfer, is in %s", s.Path, ErrNone, dir)
	default:
		sp.Close()
		if err := sp.Remove(); err != nil {
			return nil, err
		}
	}
	s.Begun = time.Now()
	l, err := openLog(filepath.Join(dir, fileName(&s, spoolSuffix)), os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, full(dir, err)
	}
	sp = newSpool(&found{log: l, kept: pages{}})
	err = l.add(&record{kind: kindBegin, n: s.Size, payload: appendSubject(nil, &s)})
	if err == nil {
		err = l.add(&record{kind: kindTransfer, payload: token[:]})
	}
	if err == nil {
		err = syncDir(l.path)
	}
	if err == nil {
		l.end = 0
		err = sp.follow(sp.note)
	}
	if err != nil {
		l.close()
		_ = os.Remove(l.path)
		return nil, err
	}
	return sp, nil
}

// Close ends this session's use of it.
func (s *Spool) Close() error { return s.log.close() }

// Log is its file.
func (s *Spool) Log() string { return s.log.path }

// Committed tells that it is to be applied, whatever happens.
func (s *Spool) Committed() bool { return s.state == stateCommitted }

// Remove removes it: it was applied, or nothing of it was.
func (s *Spool) Remove() error {
	At("removing", s.log)
	if err := os.Remove(s.log.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	At("removed", s.log)
	return syncDir(s.log.path)
}

// note keeps track of the ranges that are complete.
func (s *Spool) note(r *record) error {
	switch r.kind {
	case kindForget:
		s.complete = without(s.complete, r.span())
	case kindRange:
		c, err := decodeRange(r)
		if err != nil {
			return fmt.Errorf("%s: %w", s.log.path, err)
		}
		s.complete = append(without(s.complete, r.span()), c)
	}
	return nil
}

// add appends buf, and makes it durable with sync.
func (s *Spool) add(sync bool) error {
	if err := s.log.lock(); err != nil {
		return err
	}
	err := func() error {
		defer s.log.unlock()
		if err := s.follow(s.note); err != nil {
			return err
		}
		if s.torn {
			if err := s.log.f.Truncate(s.log.end); err != nil {
				return err
			}
		}
		from := s.log.end
		if err := s.log.append(s.buf); err != nil {
			return err
		}
		s.log.end = from
		return s.follow(s.note)
	}()
	s.buf = s.buf[:0]
	if err != nil || !sync {
		return err
	}
	At("spooled", s.log)
	if err := s.log.sync(); err != nil {
		return err
	}
	At("spooled durably", s.log)
	return nil
}

func (s *Spool) put(r *record) { s.buf = appendRecord(s.buf, r, s.log.durable) }

// Begin forgets what the spool has of a range, which is compared anew.
func (s *Spool) Begin(r block.Range) error {
	s.buf = s.buf[:0] // of a range that was not done to its end
	s.put(&record{kind: kindForget, off: r.Offset, n: r.Length})
	return s.add(false)
}

// Complete notes that all of a range is in the spool, durably.
func (s *Spool) Complete(r block.Range, root block.Digest) error {
	payload := append(binary.BigEndian.AppendUint32(nil, uint32(r.BlockSize)), root[:]...)
	s.put(&record{kind: kindRange, off: r.Offset, n: r.Length, payload: payload})
	return s.add(true)
}

// Commit decides that the first size bytes of the target become what is in the
// spool. All of them must have been compared.
func (s *Spool) Commit(size int64, c Commit) error {
	if err := s.add(false); err != nil { // reads what the others have appended
		return err
	}
	sum := int64(0)
	for _, c := range s.complete { // none meets another
		sum += c.r.Length
	}
	if sum != size {
		return fmt.Errorf("%s: %w: it has %d of %d bytes: copy again", s.log.path, ErrMissing, sum, size)
	}
	payload := binary.BigEndian.AppendUint64(nil, uint64(c.Size))
	s.put(&record{kind: kindCommit, n: size, payload: binary.BigEndian.AppendUint64(payload, uint64(c.ModTime))})
	return s.add(true)
}

// End is how the target ends, of a spool that is committed.
func (s *Spool) End() Commit { return s.commit }

// Apply writes what is in a committed spool, and makes it durable. It may be done
// again after a crash. check, which may be nil, reads again what was written.
func (s *Spool) Apply(ctx context.Context, dev Device, check func(p []byte, off int64) error) error {
	// Who committed it may have died before that was durable.
	if err := s.log.sync(); err != nil {
		return err
	}
	if err := s.valid(ctx, func(off, n int64, data []byte) error {
		defer At("applied", s.log)
		if data == nil {
			return dev.Zero(off, n)
		}
		_, err := dev.WriteAt(data, off)
		return err
	}); err != nil {
		return err
	}
	if err := dev.Sync(); err != nil {
		return err
	}
	At("applied durably", s.log)
	if check == nil {
		return nil
	}
	return s.valid(ctx, func(off, n int64, data []byte) error {
		if data == nil {
			data = make([]byte, n)
		}
		return check(data, off)
	})
}

// valid calls do with all that is to be written, in order, nil for zeros. What was
// put in before its range was forgotten is left out.
func (s *Spool) valid(ctx context.Context, do func(off, n int64, data []byte) error) error {
	type forgotten struct {
		span
		at int64 // records before are void
	}
	var void []forgotten
	pass := func(each func(r *record, at int64) error) error {
		s.log.end = 0
		return s.follow(func(r *record) error { return each(r, s.log.end) })
	}
	if err := pass(func(r *record, at int64) error {
		if r.kind == kindForget {
			void = append(void, forgotten{r.span(), at})
		}
		return nil
	}); err != nil {
		return err
	}
	return pass(func(r *record, at int64) error {
		if r.kind != kindNew {
			return nil
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		for _, f := range void {
			if at < f.at && f.meets(r.span()) {
				return nil
			}
		}
		if r.encoding == wire.EncodingNone {
			return do(r.off, r.n, nil)
		}
		data, err := s.dec.Decode(r.encoding, r.payload, int(min(r.n, block.ExtentSize)))
		if err != nil || int64(len(data)) != r.n {
			return fmt.Errorf("%s: %w: what bytes %d to %d get cannot be read", s.log.path, ErrDamaged, r.off, r.off+r.n)
		}
		return do(r.off, r.n, data)
	})
}

// Check compares the roots of the target with those of the spool.
func (s *Spool) Check(ctx context.Context, src delta.Source, progress func(int64) error) error {
	done := int64(0)
	for _, c := range s.complete {
		root, err := delta.Root(ctx, src, c.r, func(n int64) error { return progress(done + n) })
		if err != nil {
			return err
		}
		if root != c.root {
			return fmt.Errorf("%s: %w: bytes %d to %d are not what the copy made of them: somebody else has written there, or the disk is failing: copy again", s.subject.Path, ErrDiffers, c.r.Offset, c.r.Offset+c.r.Length)
		}
		done += c.r.Length
	}
	return nil
}

// Spooled is a target whose writes go to the spool. It is read as it is.
type Spooled struct {
	delta.Source
	spool *Spool
}

// Target is src, to be written by the spool.
func (s *Spool) Target(src delta.Source) *Spooled { return &Spooled{src, s} }

// WriteAt takes p, of at most an extent, to be written.
func (t *Spooled) WriteAt(p []byte, off int64) (int, error) {
	if len(p) > block.ExtentSize {
		return 0, io.ErrShortWrite
	}
	enc, data := t.spool.enc.Encode(p)
	t.spool.put(&record{kind: kindNew, encoding: enc, off: off, n: int64(len(p)), payload: data})
	return len(p), nil
}

// Zero takes a range to become zero.
func (t *Spooled) Zero(off, n int64) error {
	t.spool.put(&record{kind: kindNew, encoding: wire.EncodingNone, off: off, n: n})
	return nil
}

// Settled appends to the spool when it is much.
func (t *Spooled) Settled(int64, int) error {
	if int64(len(t.spool.buf)) < groupSize {
		return nil
	}
	return t.spool.add(false)
}

// Sync makes what was taken durable.
func (t *Spooled) Sync() error { return t.spool.add(true) }
