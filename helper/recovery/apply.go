package recovery

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// End is how the target ends, of a spool that is committed.
func (s *Spool) End() Commit { return s.commit }

// Apply writes what is in a committed spool, and makes it durable. It may be done
// again after a crash. Fits comes before. check, which may be nil, reads again what
// was written.
func (s *Spool) Apply(ctx context.Context, dev Device, check func(p []byte, off int64) error) error {
	// Who committed it may have died before that was durable.
	if err := s.reopened(); err != nil {
		return err
	}
	if err := s.valid(ctx, func(c *change) error {
		defer At("applied", s.log)
		if c.data == nil {
			return dev.Zero(c.off, c.n)
		}
		_, err := dev.WriteAt(c.data, c.off)
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
	return s.valid(ctx, func(c *change) error {
		data := c.data
		if data == nil {
			data = make([]byte, c.n)
		}
		return check(data, c.off)
	})
}

// Fits tells whether all that the spool changes is as it was when the spool was
// made, or as the spool makes it; else it is ErrDiffers. dev has size bytes, behind
// which it reads zeros. Nothing is written.
func (s *Spool) Fits(ctx context.Context, dev io.ReaderAt, size int64) error {
	grown := s.subject.File && s.Committed() && size == s.commit.Size
	if size != s.subject.Size && !grown {
		return s.resized(size)
	}
	return s.valid(ctx, func(c *change) error {
		now := s.space(c.n)
		if err := readFull(dev, now, c.off); err != nil {
			return err
		}
		for sector, sums := c.off, c.old; sector < c.off+c.n; sums = sums[4:] {
			next := min(sectorEnd(sector), c.off+c.n)
			from, to := sector-c.off, next-c.off
			want := zeroSector[:to-from]
			if c.data != nil {
				want = c.data[from:to]
			}
			if !bytes.Equal(now[from:to], want) && crc32.Checksum(now[from:to], castagnoli) != binary.BigEndian.Uint32(sums) {
				return fmt.Errorf("%s: %w: bytes %d to %d are neither what the copy found nor what it writes: somebody else has written to it since, and nothing was written now", s.subject.Path, ErrDiffers, sector, next)
			}
			sector = next
		}
		return nil
	})
}

func (s *Spool) resized(size int64) error {
	return fmt.Errorf("%s: %w: it has %d bytes, and had %d when it was copied to: nothing was written now", s.subject.Path, ErrDiffers, size, s.subject.Size)
}

// space is a buffer of n bytes.
func (s *Spool) space(n int64) []byte {
	if int64(cap(s.old)) < n {
		s.old = make([]byte, max(n, block.ExtentSize))
	}
	return s.old[:n]
}

// sectorEnd is where the sector of the target ends that the byte at off is in.
func sectorEnd(off int64) int64 { return off/sectorSize*sectorSize + sectorSize }

// appendOldSums appends the sums of the sectors, or parts of sectors, of what is at
// off of the target. A sector is written whole or not at all.
func appendOldSums(b, data []byte, off int64) []byte {
	for len(data) > 0 {
		n := min(int64(len(data)), sectorEnd(off)-off)
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(data[:n], castagnoli))
		data, off = data[n:], off+n
	}
	return b
}

// oldSums is how many bytes appendOldSums appends.
func oldSums(s span) int { return int((s.to+sectorSize-1)/sectorSize-s.from/sectorSize) * 4 }

// change is what a range gets.
type change struct {
	off, n int64
	data   []byte // nil for zeros
	old    []byte // sums of what it had
}

// valid calls do with all that is to be written, in order. What was put in before
// its range was forgotten is left out.
func (s *Spool) valid(ctx context.Context, do func(*change) error) error {
	var void forgotten
	pass := func(each func(r *record, at int64) error) error {
		s.log.end = 0
		return s.follow(func(r *record) error { return each(r, s.log.end) })
	}
	if err := pass(func(r *record, at int64) error {
		if r.kind == kindForget {
			void.add(r.span(), at)
		}
		return nil
	}); err != nil {
		return err
	}
	return pass(func(r *record, at int64) error {
		if r.kind != kindNew || at < void.last(r.span()) {
			return nil
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		c, err := s.decode(r)
		if err != nil {
			return err
		}
		return do(c)
	})
}

func (s *Spool) decode(r *record) (*change, error) {
	damaged := fmt.Errorf("%s: %w: what bytes %d to %d get cannot be read", s.log.path, ErrDamaged, r.off, r.off+r.n)
	sums := oldSums(r.span())
	if len(r.payload) < sums || s.Committed() && r.off+r.n > s.size {
		return nil, damaged
	}
	c := &change{off: r.off, n: r.n, old: r.payload[:sums]}
	if r.encoding == wire.EncodingNone {
		return c, nil
	}
	var err error
	if c.data, err = s.dec.Decode(r.encoding, r.payload[sums:], int(r.n)); err != nil || int64(len(c.data)) != r.n {
		return nil, damaged
	}
	return c, nil
}

// forgotten are ranges that were forgotten, each with the place in the log where it
// was last. They are in order and none meets another.
type forgotten []forgot

type forgot struct {
	span
	at int64
}

// index is the first that ends behind off.
func (f forgotten) index(off int64) int {
	i, _ := slices.BinarySearchFunc(f, off, func(e forgot, off int64) int {
		if e.to <= off {
			return -1
		}
		return 1
	})
	return i
}

// add takes a range that was forgotten later than all before.
func (f *forgotten) add(s span, at int64) {
	if s.from == s.to {
		return
	}
	i := f.index(s.from)
	j := i
	for j < len(*f) && (*f)[j].from < s.to {
		j++
	}
	var now forgotten
	if i < j && (*f)[i].from < s.from {
		e := (*f)[i]
		e.to = s.from
		now = append(now, e)
	}
	now = append(now, forgot{s, at})
	if i < j && (*f)[j-1].to > s.to {
		e := (*f)[j-1]
		e.from = s.to
		now = append(now, e)
	}
	*f = slices.Replace(*f, i, j, now...)
}

// last is where anything of s was forgotten last, 0 for never.
func (f forgotten) last(s span) (at int64) {
	for i := f.index(s.from); i < len(f) && f[i].from < s.to; i++ {
		at = max(at, f[i].at)
	}
	return at
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
