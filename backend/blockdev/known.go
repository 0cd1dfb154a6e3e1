package blockdev

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// known is what the target held of a range at the end of a run.
type known struct {
	Offset int64  `json:"offset"` // bytes
	Length int64  `json:"length"` // bytes
	Root   string `json:"root"`   // hex
}

func (k known) end() int64 { return k.Offset + k.Length }

func (k known) blocks(size int) block.Range {
	return block.Range{Offset: k.Offset, Length: k.Length, BlockSize: size}
}

// learn notes what the target holds of r. Hold mu.
func (j *journal) learn(r block.Range, root block.Digest) bool {
	if j.page.Run == "" {
		return false
	}
	k := known{r.Offset, r.Length, hex.EncodeToString(root[:])}
	j.unlearn(k)
	j.page.Known = append(j.page.Known, k)
	return true
}

// unlearn drops what touches k. Hold mu.
func (j *journal) unlearn(k known) {
	j.page.Known = slices.DeleteFunc(j.page.Known, func(x known) bool { return x.Offset < k.end() && k.Offset < x.end() })
}

// begin is called for a new run, which has a name when a proof of its end is kept, with
// the run since whose end nobody has written. It gives what is known of the target, or
// the number of ranges of which nothing is known any more. Nothing may be written to the
// target when it fails: the file would say of this run what is of an earlier one.
func (j *journal) begin(run, since string) (all []known, lost int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if since == "" || since != j.page.Run || !j.sound() {
		lost, j.page.Known = len(j.page.Known), nil
	}
	if lost > 0 { // save may have nothing to say
		if err := os.Remove(j.file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, lost, cannotForget(j.file, err)
		}
	}
	j.page.Run = run
	return slices.Clone(j.page.Known), lost, j.save()
}

// sound tells whether what the file says of the target is of this transfer, and of no byte
// twice. Hold mu.
func (j *journal) sound() bool {
	slices.SortFunc(j.page.Known, func(a, b known) int { return cmp.Compare(a.Offset, b.Offset) })
	end := int64(0)
	for _, k := range j.page.Known {
		whole := k.Offset%block.ExtentSize == 0 && (k.Length%block.ExtentSize == 0 || k.end() == j.page.Size)
		if !whole || k.Offset < end || k.Length <= 0 || k.end() < 0 || k.end() > j.page.Size {
			return false
		}
		end = k.end()
	}
	return true
}

// disown notes that nothing is known of the target, nor will be at the end of this run.
func (j *journal) disown() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.page.Run == "" {
		return nil
	}
	j.page.Known = nil
	err := j.save()
	j.page.Run = ""
	return err
}

// distrust notes that nothing is known any more of these ranges, or of the target. They may
// be written to when it does not fail.
func (j *journal) distrust(ranges ...known) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, k := range ranges {
		j.unlearn(k)
	}
	if len(ranges) == 0 {
		j.page.Known = nil
	}
	return j.save()
}

// rest is what of these ranges is not known. all is sorted.
func rest(ranges []block.Range, all []known) (left []block.Range) {
	for _, r := range ranges {
		end := r.Offset + r.Length
		i, _ := slices.BinarySearchFunc(all, r.Offset, func(k known, off int64) int { return cmp.Compare(k.end()-1, off) })
		for ; i < len(all) && all[i].Offset < end; i++ {
			if r.Length = all[i].Offset - r.Offset; r.Length > 0 {
				left = append(left, r)
			}
			r.Offset = all[i].end()
		}
		if r.Length = end - r.Offset; r.Length > 0 {
			left = append(left, r)
		}
	}
	return left
}

// cannotForget is the error for a file that can be neither written nor removed.
func cannotForget(file string, err error) error {
	if removed := os.Remove(file); removed == nil || errors.Is(removed, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%s: the notes of an interrupted copy cannot be brought up to date: %w: remove that file", file, err)
}
