package delta

import (
	"io"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// applier verifies patches against what is known of the target and writes them.
// It is owned by the receiver's run.
type applier struct {
	tgt   Target // nil in a comparison
	r     block.Range
	patch wire.Patch     // decoded into
	old   []block.Digest // block digests of an extent of zeros
	next  []block.Digest // block digests of the extent when patched
	fresh []block.Digest // of runDigests

	unsqueeze compress.Decoder
}

func newApplier(tgt Target, r block.Range) applier {
	blocks := block.Count(block.ExtentSize, r.BlockSize)
	return applier{tgt: tgt, r: r, old: make([]block.Digest, blocks), next: make([]block.Digest, blocks), fresh: make([]block.Digest, blocks)}
}

// apply brings e to the digest of the patch. Nothing is written when the patch
// does not lead there: then ok is false. Blocks that hold the right bytes
// already are not written.
func (a *applier) apply(e *extent, sum *wire.Summary) (ok bool, err error) {
	if err := a.check(e); err != nil {
		return false, err
	}
	if a.tgt == nil {
		a.compare(e, sum)
		return true, nil
	}
	old := e.blockDigests(a.old, a.r.BlockSize)
	next := a.next[:len(old)]
	copy(next, old)
	for _, r := range a.patch.Runs {
		if r.Zero {
			_, n := runSpan(e, r, a.r.BlockSize)
			block.ZeroDigests(next[r.First:], n, a.r.BlockSize)
		}
	}
	runDigests(next, a.fresh, a.patch.Runs, a.patch.Data, a.r.BlockSize)
	if block.ExtentDigest(next) != a.patch.Digest {
		return false, nil
	}
	if err := a.write(e, old, next, sum); err != nil {
		return false, err
	}
	e.digest, e.zero, e.blocks = a.patch.Digest, false, nil // nobody asks for these any more
	return true, nil
}

// runDigests stores in sums, which has one for each block of an extent, those of the
// blocks that runs have bytes for. data is the bytes of all of them, one behind the other,
// and hashed together: most runs are shorter than what is hashed side by side. room is for
// as many digests as sums has.
func runDigests(sums, room []block.Digest, runs []wire.Run, data []byte, blockSize int) {
	fresh := block.Digests(room, data, blockSize)
	for _, r := range runs {
		if !r.Zero {
			fresh = fresh[copy(sums[r.First:][:r.Count], fresh):]
		}
	}
}

// check decodes the data of a patch, and refuses one that does not fit the extent.
func (a *applier) check(e *extent) error {
	blocks, want := block.Count(e.length, a.r.BlockSize), 0
	for _, r := range a.patch.Runs {
		if int(r.First)+int(r.Count) > blocks {
			return wire.Errorf(wire.CodeProtocol, "protocol error: patch of extent %d goes past its end", e.index)
		}
		if _, n := runSpan(e, r, a.r.BlockSize); !r.Zero {
			want += n
		}
	}
	if bare := a.patch.Encoding == wire.EncodingNone; bare != (a.tgt == nil) {
		return wire.Errorf(wire.CodeProtocol, "protocol error: patch of extent %d has encoding %d, which is not for a transfer of this kind", e.index, a.patch.Encoding)
	} else if bare {
		return nil
	}
	var err error
	if a.patch.Data, err = a.unsqueeze.Decode(a.patch.Encoding, a.patch.Data, want); err != nil {
		return wire.Errorf(wire.CodeProtocol, "protocol error: patch of extent %d: %v", e.index, err)
	}
	if len(a.patch.Data) != want {
		return wire.Errorf(wire.CodeProtocol, "protocol error: patch of extent %d has %d bytes of data, not %d", e.index, len(a.patch.Data), want)
	}
	return nil
}

// write writes the blocks of the patch whose digest changes.
func (a *applier) write(e *extent, old, next []block.Digest, sum *wire.Summary) error {
	data := a.patch.Data
	changed := int64(0)
	for _, r := range a.patch.Runs {
		_, n := runSpan(e, r, a.r.BlockSize)
		var bytes []byte
		if !r.Zero {
			bytes, data = data[:n], data[n:]
		}
		w, err := a.writeRun(e, r, bytes, old, next)
		if err != nil {
			return err
		}
		changed += w
		if r.Zero {
			sum.Zeroed += w
		} else {
			sum.Data += w
		}
	}
	sum.Equal += int64(e.length) - changed
	return nil
}

// writeRun writes the changed blocks of one run, neighbours together and without
// the gaps, and returns how many bytes that were. bytes is the content of the run unless it
// becomes zero.
func (a *applier) writeRun(e *extent, r wire.Run, bytes []byte, old, next []block.Digest) (changed int64, err error) {
	start, _ := runSpan(e, r, a.r.BlockSize)
	end := int(r.First) + int(r.Count)
	for i := int(r.First); i < end; i++ {
		first := i
		for i < end && old[i] != next[i] {
			i++
		}
		if i == first {
			continue
		}
		from, to := first*a.r.BlockSize, min(i*a.r.BlockSize, e.length)
		err = eachBetween(e.gaps, e.offset+int64(from), e.offset+int64(to), func(off, n int64) error {
			changed += n
			if r.Zero {
				return a.tgt.Zero(off, n)
			}
			at := off - e.offset - int64(start)
			_, err := a.tgt.WriteAt(bytes[at:at+n], off)
			return err
		})
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// readFull reads all of p at off. A source that ends early is an error: what is
// open has shrunk.
func readFull(src Source, p []byte, off int64) error {
	n, err := src.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	return incomplete(off+int64(n), err)
}

// incomplete is the error of a reading that err has ended before the byte at off.
func incomplete(off int64, err error) error {
	if err == nil || err == io.EOF {
		return wire.Errorf(wire.CodeSource, "ended at byte %d while it was read: its size changed", off)
	}
	return err
}
