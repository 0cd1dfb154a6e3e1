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
	buf      []byte // records to append
	old      []byte // what is read of the target
	pay      []byte // of one record
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
	if err := sp.follow(sp.note); err != nil {
		sp.Close()
		return nil, err
	}
	return sp, nil
}

func newSpool(f *found) *Spool {
	return &Spool{found: *f, enc: compress.NewEncoder(wire.CompressZstd)}
}

// BeginSpool opens the spool of a transfer, which goes on with its own and with no
// other. Its own may be committed. Another that is committed is ErrCommitted: whether
// it still is to be applied is not for a copy to decide. Any other is removed, since
// nothing of it was applied.
func BeginSpool(dir string, s Subject, token Token, lead bool) (*Spool, error) {
	sp, err := OpenSpool(dir, s)
	switch {
	case errors.Is(err, ErrNone) && lead:
	case err != nil:
		return nil, err
	case sp.Committed() && sp.token != token:
		sp.Close()
		return nil, fmt.Errorf("%s: %w: run backend recover, or remove its spool %s to give that copy up", s.Path, ErrCommitted, sp.log.path)
	case sp.token == token && !s.File && sp.subject.Size != s.Size:
		sp.Close()
		return nil, sp.resized(s.Size)
	case sp.token == token:
		if err := sp.reopened(); err != nil {
			sp.Close()
			return nil, err
		}
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
	_, skipped, _ := look(dir, spoolSuffix, &s)
	sp = newSpool(&found{log: l, kept: pages{}, skipped: skipped})
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
func (s *Spool) Close() error {
	s.dec.Release()
	return s.log.close()
}

// Log is its file.
func (s *Spool) Log() string { return s.log.path }

// Notices are what there is to say of its directory.
func (s *Spool) Notices() []string { return s.skipped }

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

// reopened makes durable what another process may not have got onto the disk.
func (s *Spool) reopened() error {
	if err := s.log.lock(); err != nil {
		return err
	}
	defer s.log.unlock()
	if err := s.follow(s.note); err != nil {
		return err
	}
	if err := s.log.rewrite(); err != nil {
		return err
	}
	return s.log.sync()
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
		if s.Committed() { // nothing may follow
			return fmt.Errorf("%s: %w: %s is its spool: run backend recover", s.subject.Path, ErrCommitted, s.log.path)
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

// Commit decides that the first size bytes of dev, which has have now, become what is
// in the spool. All of them must have been compared, and what is to be overwritten
// must be what it was then.
func (s *Spool) Commit(ctx context.Context, dev io.ReaderAt, have, size int64, c Commit) error {
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
	if err := s.Fits(ctx, dev, have); err != nil {
		return fmt.Errorf("%w: copy again", err)
	}
	payload := binary.BigEndian.AppendUint64(nil, uint64(c.Size))
	s.put(&record{kind: kindCommit, n: size, payload: binary.BigEndian.AppendUint64(payload, uint64(c.ModTime))})
	return s.add(true)
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
	if err := t.take(enc, off, int64(len(p)), data); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Zero takes a range to become zero.
func (t *Spooled) Zero(off, n int64) error {
	for end := off + n; off < end; off += block.ExtentSize {
		if err := t.take(wire.EncodingNone, off, min(block.ExtentSize, end-off), nil); err != nil {
			return err
		}
	}
	return nil
}

// take puts in what n bytes get, with the sums of what they have.
func (t *Spooled) take(enc wire.Encoding, off, n int64, data []byte) error {
	if n == 0 {
		return nil
	}
	s := t.spool
	if int64(len(s.buf)) >= groupSize {
		if err := s.add(false); err != nil {
			return err
		}
	}
	old := s.space(n)
	if err := readFull(t.Source, old, off); err != nil {
		return err
	}
	s.pay = append(appendOldSums(s.pay[:0], old, off), data...)
	s.put(&record{kind: kindNew, encoding: enc, off: off, n: n, payload: s.pay})
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
