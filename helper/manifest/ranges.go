package manifest

import "github.com/rclone-blockdev/rclone-blockdev/helper/block"

// Ranges collects ranges of bytes that differ. They come in order; neighbours are one.
type Ranges struct {
	Show  func(off, n int64) // is called with each, when its end is known
	Count int64              // of those shown
	Bytes int64              // in all

	off, n int64 // the last one, which may go on
}

// Add takes in n bytes at off.
func (r *Ranges) Add(off, n int64) {
	if n == 0 {
		return
	}
	r.Bytes += n
	if r.n > 0 && r.off+r.n == off {
		r.n += n
		return
	}
	r.End()
	r.off, r.n = off, n
}

// End shows the last one.
func (r *Ranges) End() {
	if r.n > 0 {
		r.Count++
		r.Show(r.off, r.n)
	}
	r.n = 0
}

// Whole is how many of the n bytes that two have in common can be compared with manifests
// of these sizes: of the last extent that only a longer one has as a whole there is no
// digest of a part.
func Whole(n int64, sizes ...int64) int64 {
	for _, size := range sizes {
		if size > n {
			return n - n%block.ExtentSize
		}
	}
	return n
}

// Compare gives the ranges in which two manifests differ, which must have the same block
// size, up to the end of the longer one.
func Compare(a, b *Manifest, differ *Ranges) error {
	n := Whole(min(a.Size, b.Size), a.Size, b.Size)
	r := block.Range{Length: n, BlockSize: a.BlockSize}
	for i := range r.Extents() {
		x, err := a.Digest(i)
		if err != nil {
			return err
		}
		y, err := b.Digest(i)
		if err != nil {
			return err
		}
		if off, length := r.Extent(i); x != y {
			differ.Add(off, int64(length))
		}
	}
	differ.Add(n, max(a.Size, b.Size)-n)
	differ.End()
	return nil
}
