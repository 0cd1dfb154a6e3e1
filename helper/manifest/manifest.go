// Package manifest is the file that says what a device or image held at one time: the
// digest of each of its extents, and of which device they are. With it a device is
// checked, or compared with another one, without what it was copied from. The format
// is in docs/receipts.md.
//
// A manifest proves what it says of itself only in so far as it is kept where nobody
// changes it: its sums find damage, not malice.
package manifest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// magic begins every manifest. Transfers that change line ends or cut bytes to seven
// bits break it.
const magic = "\x89BDM\r\n\x1a\n"

// MagicSize is how many bytes [Is] needs.
const MagicSize = len(magic)

// Version is that of the format.
const Version = 1

// Limits of what a reader accepts.
const (
	MaxPath = 4096 // bytes of a path
	MaxIDs  = 64   // identities
	MaxID   = 255  // bytes of one
)

// Sizes in bytes.
const (
	digestSize  = len(block.Digest{})
	trailerSize = 2 * digestSize // root, sum of all before
	fixedSize   = len(magic) + 3*4 + 3*8
	maxHeader   = fixedSize + 2 + MaxPath + 2 + MaxIDs*(2+MaxID)
)

// ErrFormat is what every error about the content of a manifest matches.
var ErrFormat = errors.New("no valid manifest")

// Header says what a manifest is of.
type Header struct {
	BlockSize int       // bytes
	Size      int64     // bytes that the digests are of
	Of        int64     // bytes of the device, of which these are the first; not below Size
	Time      time.Time // when reading began, in ns
	Path      string    // as it was named, for people
	IDs       []string  // identities of the device, key=value
}

// Range is what the digests are of.
func (h *Header) Range() block.Range { return block.Range{Length: h.Size, BlockSize: h.BlockSize} }

// length is the size in bytes of the whole manifest.
func (h *Header) length() int64 {
	return int64(len(h.append(nil))) + h.Range().Extents()*int64(digestSize) + int64(trailerSize)
}

// check refuses what the format cannot say.
func (h *Header) check() error {
	if err := block.CheckSize(h.BlockSize); err != nil {
		return broken("%v", err)
	}
	if h.Size < 0 || h.Of < h.Size || h.Of > 1<<62 {
		return broken("%d of %d bytes", h.Size, h.Of)
	}
	if len(h.IDs) > MaxIDs {
		return broken("%d identities, more than %d", len(h.IDs), MaxIDs)
	}
	if !text(h.Path, MaxPath) {
		return broken("the path %q", h.Path)
	}
	for _, id := range h.IDs {
		if !text(id, MaxID) {
			return broken("the identity %q", id)
		}
	}
	return nil
}

// text tells whether s may be shown to people and is not too long.
func text(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// clean is h without what the format cannot say of a device: the path is for people, and
// of identities those that cannot be stored are left out.
func (h Header) clean() Header {
	h.Path = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(h.Path, "?"))
	if len(h.Path) > MaxPath {
		h.Path = strings.ToValidUTF8(h.Path[:MaxPath], "")
	}
	h.IDs = slices.DeleteFunc(slices.Clone(h.IDs), func(id string) bool { return !text(id, MaxID) })
	h.IDs = h.IDs[:min(len(h.IDs), MaxIDs)]
	return h
}

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// Is tells whether a file that begins like this says that it is a manifest.
func Is(first []byte) bool { return bytes.HasPrefix(first, []byte(magic)) }

func (h *Header) append(b []byte) []byte {
	b = append(b, magic...)
	for _, n := range []int{Version, h.BlockSize, block.ExtentSize} {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	for _, n := range []int64{h.Size, h.Of, h.Time.UnixNano()} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = appendText(b, h.Path)
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.IDs)))
	for _, id := range h.IDs {
		b = appendText(b, id)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// cursor reads a header. What is missing makes it empty and short.
type cursor struct {
	b     []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.b, c.short = nil, true
		return make([]byte, n) // n is a constant, or at most 65535
	}
	taken := c.b[:n]
	c.b = c.b[n:]
	return taken
}

func (c *cursor) uint16() int    { return int(binary.BigEndian.Uint16(c.take(2))) }
func (c *cursor) uint32() uint32 { return binary.BigEndian.Uint32(c.take(4)) }
func (c *cursor) int64() int64   { return int64(binary.BigEndian.Uint64(c.take(8))) }
func (c *cursor) text() string   { return string(c.take(c.uint16())) }

// parse reads a header from the first bytes of a manifest, and returns its length.
func parse(first []byte) (h Header, length int, err error) {
	if !Is(first) {
		return h, 0, broken("it does not begin like one")
	}
	c := &cursor{b: first[len(magic):]}
	if v := c.uint32(); v != Version && !c.short {
		return h, 0, broken("it has version %d of the format, this program reads %d", v, Version)
	}
	h.BlockSize = int(min(c.uint32(), block.MaxSize+1))
	extent := c.uint32()
	h.Size, h.Of, h.Time = c.int64(), c.int64(), time.Unix(0, c.int64())
	h.Path = c.text()
	for range min(c.uint16(), MaxIDs+1) {
		h.IDs = append(h.IDs, c.text())
	}
	if c.short {
		return h, 0, broken("it ends in its header")
	}
	if extent != block.ExtentSize {
		return h, 0, broken("extents of %d bytes, not %d", extent, block.ExtentSize)
	}
	return h, len(first) - len(c.b), h.check()
}
