package deltafile

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Link is one delta of a chain.
type Link struct {
	Name string
	Open func() (io.ReadCloser, error)
}

// Chain is what the last of a number of deltas leads to. All that is needed of them lies
// in a temporary file, compressed, and was verified: a delta that is damaged afterwards
// does not matter. Its methods may be called concurrently.
type Chain struct {
	Header // of the first delta that is needed
	First  string
	Last   string         // name of the last one
	Size   int64          // of the state that it leads to; hides that of Header
	Root   block.Digest   // of that state
	State  *manifest.File // of it; not for several goroutines at once
	Used   int            // deltas

	mu sync.Mutex // for State

	spool *os.File
	temp  string  // name of spool, where the system cannot remove what is open
	end   int64   // of spool
	at    []int64 // by extent: where its record begins in spool, plus 1; 0 without one
}

// Load reads and verifies the deltas of links, the oldest first in the list, from the last
// one back to the first that is needed: a full one, or the first of the list.
func Load(links []Link) (*Chain, error) {
	c := new(Chain)
	var err error
	if c.spool, err = os.CreateTemp("", ".blockdev-*.tmp"); err != nil {
		return nil, err
	}
	if os.Remove(c.spool.Name()) != nil { // else it goes with the program, however that ends
		c.temp = c.spool.Name()
	}
	for i := len(links) - 1; i >= 0 && err == nil; i-- {
		if err = c.load(&links[i]); err == nil && c.Full() {
			break
		}
	}
	if err == nil {
		err = c.complete()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the use of c.
func (c *Chain) Close() {
	if c.State != nil {
		_ = c.State.Close()
	}
	_ = c.spool.Close()
	if c.temp != "" {
		_ = os.Remove(c.temp)
	}
}

// load takes in the delta before those that were loaded.
func (c *Chain) load(l *Link) error {
	in, err := l.Open()
	if err != nil {
		return fmt.Errorf("%s: %w", l.Name, err)
	}
	defer in.Close()
	if c.Used == 0 {
		err = c.last(in, l.Name)
	} else {
		err = c.before(in, l.Name)
	}
	if err != nil && errors.Is(err, ErrFormat) {
		return fmt.Errorf("%s: %w", l.Name, err)
	}
	return err
}

// last takes in the last delta.
func (c *Chain) last(in io.Reader, name string) error {
	r, err := NewReader(in)
	if err != nil {
		return err
	}
	var kept [][2]int64 // extent and its place, in order: its state tells only at the end how many there may be
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		i := rec.Extent
		at, err := c.keep(rec)
		if err != nil {
			return err
		}
		kept = append(kept, [2]int64{i, at})
	}
	e, err := r.End(name)
	if err != nil {
		return err
	}
	c.Header, c.First, c.Last, c.Size, c.Root, c.State = r.Header, name, name, r.Size, e.Root, e.Manifest
	c.Used++
	c.at = make([]int64, e.Manifest.Extents()) // as many digests were read
	for _, k := range kept {
		c.at[k[0]] = k[1]
	}
	return nil
}

// before takes in a delta that another one follows: of its records those that the last
// state still has.
func (c *Chain) before(in io.Reader, name string) error {
	r, err := NewReader(in)
	if err != nil {
		return err
	}
	if r.BlockSize != c.BlockSize {
		return broken("it has blocks of %d bytes, and what follows it, %s, of %d", r.BlockSize, c.First, c.BlockSize)
	}
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if rec.Extent >= int64(len(c.at)) || c.at[rec.Extent] != 0 {
			continue
		}
		if want, err := c.State.Digest(rec.Extent); err != nil || want != rec.Digest {
			continue // its error comes again when it is used
		}
		if c.at[rec.Extent], err = c.keep(rec); err != nil {
			return err
		}
	}
	e, err := r.End(name)
	if err != nil {
		return err
	}
	_ = e.Manifest.Close()
	if e.Root != c.BaseRoot || r.Size != c.BaseSize {
		return fmt.Errorf("%s does not follow %s: %s", c.First, name, c.missing())
	}
	c.Header, c.First = r.Header, name
	c.Used++
	return nil
}

// missing names what the first delta is based on.
func (c *Chain) missing() string {
	var base struct{ Delta string }
	if json.Unmarshal(c.Base, &base) == nil && base.Delta != "" {
		return "it is based on " + fmt.Sprintf("%q", base.Delta) + ", which is missing or not in its place"
	}
	return fmt.Sprintf("a delta that leads to the root %x is missing between them, or not in its place", c.BaseRoot)
}

// complete refuses what cannot be: records that the last state does not have, and a full
// chain in which something is missing.
func (c *Chain) complete() error {
	if c.Used == 0 {
		return errors.New("no delta to apply")
	}
	for i := range int64(len(c.at)) {
		want, zero, err := c.digest(i)
		if err != nil {
			return err
		}
		switch {
		case zero: // a record that was written before it became zero does not count
			c.at[i] = 0
		case c.at[i] == 0 && c.Full():
			return fmt.Errorf("%s: %w", c.First, broken("nothing is there of extent %d", i))
		case c.at[i] != 0:
			head, err := c.head(i)
			if err != nil {
				return err
			}
			if block.Digest(head[:]) != want {
				return fmt.Errorf("%s: %w", c.Last, broken("the record of extent %d is not of its state", i))
			}
		}
	}
	return nil
}

// Range is all of the state that c leads to.
func (c *Chain) Range() block.Range { return block.Range{Length: c.Size, BlockSize: c.BlockSize} }

// digest is that of extent i. State is locked or not yet shared.
func (c *Chain) digest(i int64) (d block.Digest, zero bool, err error) {
	if d, err = c.State.Digest(i); err != nil {
		return d, false, err
	}
	_, length := c.Range().Extent(i)
	return d, d == block.ZeroExtent(length, c.BlockSize), nil
}

// Digest is that of extent i, in order or nearly so.
func (c *Chain) Digest(i int64) (block.Digest, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.State.Digest(i)
}

// Digests are those of the extents of r.
func (c *Chain) Digests(r block.Range) ([]block.Digest, error) {
	all := make([]block.Digest, 0, r.Extents())
	for i := range r.Extents() {
		d, err := c.Digest(r.Offset/block.ExtentSize + i)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// Has tells whether the content of extent i is known: without what the target holds.
func (c *Chain) Has(i int64) (bool, error) {
	if i < 0 || i >= int64(len(c.at)) {
		return false, nil
	}
	if c.at[i] != 0 {
		return true, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, zero, err := c.digest(i)
	return zero, err
}

// ErrUnknown is for an extent that no delta has the content of.
var ErrUnknown = errors.New("no delta has its content")

// keep writes a record to the spool, and returns its place.
func (c *Chain) keep(r *Record) (at int64, err error) {
	b := append(make([]byte, 0, spoolHead+len(r.Runs)*runSize+len(r.Data)), r.Digest[:]...)
	b = binary.BigEndian.AppendUint16(append(b, byte(r.Encoding)), uint16(len(r.Runs)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Data)))
	for _, run := range r.Runs {
		b = binary.BigEndian.AppendUint16(b, run.First)
		b = binary.BigEndian.AppendUint16(b, run.Count)
	}
	b = append(b, r.Data...)
	if _, err := c.spool.WriteAt(b, c.end); err != nil {
		return 0, fmt.Errorf("the temporary file for deltas: %w", err)
	}
	at = c.end + 1
	c.end += int64(len(b))
	return at, nil
}

// spoolHead is the size in bytes of what is before runs and data in the spool.
const spoolHead = digestSize + 1 + 2 + 4

// head reads that of extent i.
func (c *Chain) head(i int64) (b [spoolHead]byte, err error) {
	if _, err := c.spool.ReadAt(b[:], c.at[i]-1); err != nil {
		return b, fmt.Errorf("the temporary file for deltas: %w", err)
	}
	return b, nil
}

// Record is that of extent i. The error is ErrUnknown when there is none.
func (c *Chain) Record(i int64) (*Record, error) {
	if i < 0 || i >= int64(len(c.at)) || c.at[i] == 0 {
		return nil, ErrUnknown
	}
	head, err := c.head(i)
	if err != nil {
		return nil, err
	}
	runs, n := int(binary.BigEndian.Uint16(head[digestSize+1:])), int(binary.BigEndian.Uint32(head[digestSize+3:]))
	b := make([]byte, runs*runSize+n)
	if _, err := c.spool.ReadAt(b, c.at[i]-1+spoolHead); err != nil {
		return nil, fmt.Errorf("the temporary file for deltas: %w", err)
	}
	r := &Record{Extent: i, Digest: block.Digest(head[:]), Encoding: wire.Encoding(head[digestSize]), Data: b[runs*runSize:]}
	for k := range runs {
		r.Runs = append(r.Runs, wire.Run{First: binary.BigEndian.Uint16(b[k*runSize:]), Count: binary.BigEndian.Uint16(b[k*runSize+2:])})
	}
	return r, nil
}
