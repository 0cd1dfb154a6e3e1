// Package signature recognises what is on a disk or in an image by the marks
// that file systems, volume managers and partition tables leave at its ends, as
// blkid and wipefs do, and calls it as they do. It reads 384 KiB at most, writes
// nothing, and believes nothing of what it reads: the content may be hostile.
package signature

import (
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
)

// Bytes that are looked at. The farthest mark at the front is in the label of a
// ZFS pool, at the end that of an old RAID.
const (
	headSize = 256 << 10
	tailSize = 128 << 10
)

// Found is one thing that was recognised.
type Found struct {
	Type  string // as blkid calls it, such as ext4, gpt or LVM2_member
	UUID  string // empty when it has none
	Label string // printable
	Table bool   // it is a partition table
}

// String is what people read of it.
func (f Found) String() string {
	s := f.Type
	if f.Table {
		s += " partition table"
	}
	if f.Label != "" {
		s += fmt.Sprintf(" %q", f.Label)
	}
	if f.UUID != "" {
		s += " " + f.UUID
	}
	return s
}

// Read recognises what is on the disk or image of size bytes behind r, whose
// logical sector has that many bytes; 0 where that is not known. What cannot be
// read counts as not there.
func Read(r io.ReaderAt, size int64, sector int) []Found {
	d := open(r, size)
	found := d.tables(sector)
	for _, f := range formats {
		sb := d.bytes(f.at, superblock)
		if f.at < 0 {
			sb = d.bytes(size+f.at, superblock)
		}
		if one, ok := f.read(sb); ok {
			found = append(found, one)
		}
	}
	for _, look := range searches {
		if one, ok := look(d); ok {
			found = append(found, one)
		}
	}
	return slices.CompactFunc(found, func(a, b Found) bool { return a.Type == b.Type })
}

// Head is Read for the source of a stream, of whose size bytes only the first
// are known yet. What has its mark at the end is not found.
func Head(first []byte) []Found {
	return Read(head(first), int64(len(first))+tailSize, 0)
}

// HeadSize is how much of a stream Head looks at.
const HeadSize = headSize

type head []byte

func (h head) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(h)) {
		return 0, io.EOF
	}
	return copy(p, h[off:]), io.EOF
}

// disk is what was read of both ends.
type disk struct {
	size       int64
	head, tail []byte
	tailAt     int64
}

func open(r io.ReaderAt, size int64) *disk {
	d := &disk{size: max(size, 0)}
	d.head = read(r, 0, min(headSize, d.size))
	// The old RAID counts from a multiple of 64 KiB.
	d.tailAt = max(0, d.size&^0xffff-tailSize/2)
	d.tail = read(r, d.tailAt, d.size-d.tailAt)
	return d
}

// read reads n bytes, or as many as there are.
func read(r io.ReaderAt, off, n int64) []byte {
	b := make([]byte, n)
	got, _ := r.ReadAt(b, off)
	return b[:max(got, 0)]
}

// bytes are up to n bytes at off, as far as they were read.
func (d *disk) bytes(off int64, n int) []byte {
	for _, part := range []struct {
		at int64
		b  []byte
	}{{0, d.head}, {d.tailAt, d.tail}} {
		if from := off - part.at; from >= 0 && from < int64(len(part.b)) {
			rest := part.b[from:]
			return rest[:min(n, len(rest))]
		}
	}
	return nil
}

// field is n bytes of b at off, zeros where b is shorter.
func field(b []byte, off, n int) []byte {
	if off >= 0 && off+n <= len(b) {
		return b[off : off+n]
	}
	return make([]byte, n)
}

// has tells whether mark is in b at off.
func has(b []byte, off int, mark string) bool {
	return off >= 0 && off+len(mark) <= len(b) && string(b[off:off+len(mark)]) == mark
}

// uuid is the usual text of 16 bytes, empty for zeros.
func uuid(b []byte) string {
	if isZero(b) {
		return ""
	}
	return group(hex.EncodeToString(b), 8, 4, 4, 4, 12)
}

func isZero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// group puts hyphens between parts of those lengths.
func group(s string, lengths ...int) string {
	var parts []string
	for _, n := range lengths {
		n = min(n, len(s))
		parts, s = append(parts, s[:n]), s[n:]
	}
	return strings.Join(parts, "-")
}

// Text is what is printable of b, up to the first zero byte.
func Text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return strings.Join(strings.Fields(s), " ")
}
