package harness

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// BlockSize is the unit in bytes in which Scatter and Gather change images.
const BlockSize = 4 << 10

// Image describes a disk image with a structure like that of a real disk: runs of incompressible data, of text,
// of zeros that are stored and of holes. The same description gives the same bytes.
type Image struct {
	Size int64   // bytes, need not be a multiple of anything
	Hole float64 // share of the areas that are not written at all
	Zero float64 // share of the areas that are written as zeros
	Text float64 // share of the areas that compress well; the rest is random
	Area int     // bytes of one area, 64 KiB when 0
	Seed uint64
}

// File writes the image into a new file of the test's folder and returns its path.
func (im Image) File(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	im.Write(t, path)
	return path
}

// Write writes the image to path, which is a new file, or an existing file or device that is overwritten up to
// Size. Holes stay holes in a new file; in anything else they are areas that are left as they are.
func (im Image) Write(t testing.TB, path string) {
	t.Helper()
	if err := im.write(path); err != nil {
		t.Fatalf("cannot make image: %v", err)
	}
}

func (im Image) write(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return err
	} else if st.Mode().IsRegular() && st.Size() < im.Size {
		if err := f.Truncate(im.Size); err != nil {
			return err
		}
	}
	area := im.Area
	if area == 0 {
		area = 64 << 10
	}
	buf := make([]byte, area)
	source := generator(im.Seed)
	pick := rand.New(source)
	for at := int64(0); at < im.Size; at += int64(area) {
		part := buf[:min(int64(area), im.Size-at)]
		if !im.fill(part, pick.Float64(), source) {
			continue
		}
		if _, err := f.WriteAt(part, at); err != nil {
			return err
		}
	}
	return f.Close()
}

// fill chooses the kind of an area by the draw from [0,1) and reports whether it is to be written.
func (im Image) fill(area []byte, draw float64, source *rand.ChaCha8) bool {
	switch {
	case draw < im.Hole:
		return false
	case draw < im.Hole+im.Zero:
		clear(area)
	case draw < im.Hole+im.Zero+im.Text:
		for n, line := 0, 0; n < len(area); line++ {
			n += copy(area[n:], fmt.Sprintf("%016x: line %d of a log that says the same again\n", source.Uint64(), line))
		}
	default:
		_, _ = source.Read(area) // never fails
	}
	return true
}

// Scatter overwrites that share of the blocks of a file or device, each chosen at random, with random bytes.
// It returns the number of bytes it changed.
func Scatter(t testing.TB, path string, share float64, seed uint64) int64 {
	t.Helper()
	return change(t, path, share, seed, func(r *rand.Rand, blocks, n int) []int { return r.Perm(blocks)[:n] })
}

// Gather overwrites that share of the blocks as Scatter does, all in one place.
func Gather(t testing.TB, path string, share float64, seed uint64) int64 {
	t.Helper()
	return change(t, path, share, seed, func(r *rand.Rand, blocks, n int) []int {
		chosen := make([]int, n)
		first := r.IntN(blocks - n + 1)
		for i := range chosen {
			chosen[i] = first + i
		}
		return chosen
	})
}

func change(t testing.TB, path string, share float64, seed uint64, choose func(*rand.Rand, int, int) []int) int64 {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd) // a device has no size in its stat
	if err != nil {
		t.Fatal(err)
	}
	blocks := int((size + BlockSize - 1) / BlockSize)
	source := generator(seed)
	changed := int64(0)
	buf := make([]byte, BlockSize)
	for _, block := range choose(rand.New(source), blocks, int(share*float64(blocks)+0.5)) {
		at := int64(block) * BlockSize
		part := buf[:min(BlockSize, size-at)]
		_, _ = source.Read(part) // never fails
		if _, err := f.WriteAt(part, at); err != nil {
			t.Fatal(err)
		}
		changed += int64(len(part))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return changed
}

func generator(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}
