package block

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
)

// naive is what Digests must return, from the definition and the standard library.
func naive(data []byte, size int) []Digest {
	digests := []Digest{}
	for b := range slices.Chunk(data, size) {
		digests = append(digests, sha256.Sum256(b))
	}
	return digests
}

func naiveExtent(data []byte, size int) Digest {
	h := sha256.New()
	for _, d := range naive(data, size) {
		h.Write(d[:])
	}
	return Digest(h.Sum(nil))
}

func TestDigests(t *testing.T) {
	for _, c := range edges.Contents() {
		for _, n := range edges.Sizes() {
			if n > ExtentSize {
				continue
			}
			data := c.Make(n, 1)
			for _, size := range sizes() {
				t.Run(fmt.Sprintf("%s/%d/%d", c.Name, n, size), func(t *testing.T) {
					dst := make([]Digest, MaxPerExtent)
					got, want := Digests(dst, data, size), naive(data, size)
					if !slices.Equal(got, want) {
						t.Error("not the digests of the blocks")
					}
					if slices.ContainsFunc(dst[len(want):], func(d Digest) bool { return d != Digest{} }) {
						t.Error("wrote behind the last digest")
					}
					if ExtentDigest(got) != naiveExtent(data, size) {
						t.Error("not the digest of the extent")
					}
				})
			}
		}
	}
}

// Where the zeros at the beginning end makes no difference.
func TestScan(t *testing.T) {
	for _, size := range sizes() {
		for _, n := range []int{1, 512, 16 << 10, 16<<10 + 1, 40000, 64 << 10} {
			dst, data := make([]Digest, MaxPerExtent), make([]byte, n)
			if got := Scan(dst, data, size); got != nil || dst[0] != (Digest{}) {
				t.Errorf("%d zeros in blocks of %d: got %d digests", n, size, len(got))
			}
			for at := 0; at < n; at = at*2 + 1 {
				data[at] = 1
				if !slices.Equal(Scan(dst, data, size), naive(data, size)) {
					t.Errorf("byte %d of %d, blocks of %d: not the digests of the blocks", at, n, size)
				}
				data[at] = 0
			}
			data[n-1] = 1
			if !slices.Equal(Scan(dst, data, size), naive(data, size)) {
				t.Errorf("the last byte of %d, blocks of %d: not the digests of the blocks", n, size)
			}
		}
	}
}

func TestDigests_BlocksOfMaxSize(t *testing.T) {
	data := edges.Contents()[1].Make(MaxSize, 3)
	if got := Digests(make([]Digest, 1), data, MaxSize); got[0] != sha256.Sum256(data) {
		t.Error("not the digest of the one block")
	}
}

func TestZeroSum(t *testing.T) {
	for _, n := range append(edges.Sizes(), sizes()...) {
		if ZeroSum(n) != sha256.Sum256(make([]byte, n)) {
			t.Errorf("ZeroSum(%d) is not the digest of that many zeros", n)
		}
	}
}

func TestZeroDigests(t *testing.T) {
	for _, n := range append(edges.Sizes(), sizes()...) {
		if n > ExtentSize {
			continue
		}
		for _, size := range sizes() {
			data := make([]byte, n)
			got := ZeroDigests(make([]Digest, MaxPerExtent), n, size)
			if !slices.Equal(got, naive(data, size)) {
				t.Errorf("ZeroDigests(%d, %d) are not the digests of zeros", n, size)
			}
			if ZeroExtent(n, size) != naiveExtent(data, size) {
				t.Errorf("ZeroExtent(%d, %d) is not the digest of zeros", n, size)
			}
		}
	}
}

func TestDigest_Short(t *testing.T) {
	if s := (Digest{1, 2, 3, 4, 5}).Short(); s != (Short{1, 2, 3, 4}) {
		t.Errorf("truncated to %x", s)
	}
}

// root is the root of r with the given extents, from the definition.
func root(r Range, extents ...Digest) Digest {
	b := binary.BigEndian.AppendUint32(nil, uint32(r.BlockSize))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Length))
	for _, d := range extents {
		b = append(b, d[:]...)
	}
	return sha256.Sum256(b)
}

func TestRootHash(t *testing.T) {
	a, b := Sum([]byte("a")), Sum([]byte("b"))
	r := Range{Offset: 4096, Length: ExtentSize + 1, BlockSize: 4096}
	sum := func(r Range, extents ...Digest) Digest {
		h := NewRootHash(r)
		for _, d := range extents {
			h.Add(d)
		}
		first := h.Sum()
		if h.Sum() != first {
			t.Error("Sum changes the root")
		}
		return first
	}
	if sum(r, a, b) != root(r, a, b) || sum(r) != root(r) {
		t.Error("not as defined")
	}
	if moved := (Range{Offset: 0, Length: r.Length, BlockSize: r.BlockSize}); sum(moved, a, b) != sum(r, a, b) {
		t.Error("the root depends on where the range lies")
	}
	for _, other := range []Digest{
		sum(r, b, a), sum(r, a), sum(r, a, b, b),
		sum(Range{Length: r.Length - 1, BlockSize: r.BlockSize}, a, b),
		sum(Range{Length: r.Length, BlockSize: 8192}, a, b),
	} {
		if other == sum(r, a, b) {
			t.Error("the root does not depend on order, number, length or block size")
		}
	}
}

func TestDigests_Allocations(t *testing.T) {
	dst, data := make([]Digest, MaxPerExtent), edges.Contents()[2].Make(ExtentSize, 1)
	ZeroSum(DefaultSize) // makes the table
	if n := testing.AllocsPerRun(10, func() { ExtentDigest(Digests(dst, data, DefaultSize)) }); n != 0 {
		t.Errorf("%v allocations per extent", n)
	}
	if n := testing.AllocsPerRun(10, func() { ZeroExtent(ExtentSize, DefaultSize) }); n != 0 {
		t.Errorf("%v allocations per zero extent", n)
	}
}

func FuzzDigests(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add([]byte{0}, uint8(3))
	f.Add(make([]byte, 513), uint8(0))
	f.Add(append(make([]byte, 4095), 1), uint8(3))
	f.Add(append(make([]byte, 8192), 1), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, log uint8) {
		size := MinSize << (log % 12)
		data = data[:min(len(data), ExtentSize)]
		got := Digests(make([]Digest, MaxPerExtent), data, size)
		if !slices.Equal(got, naive(data, size)) {
			t.Errorf("%d bytes in blocks of %d: not the digests of the blocks", len(data), size)
		}
		if found := Scan(make([]Digest, MaxPerExtent), data, size); (found == nil) != IsZero(data) || found != nil && !slices.Equal(found, got) {
			t.Errorf("%d bytes in blocks of %d: the zeros at the beginning make a difference", len(data), size)
		}
	})
}

func BenchmarkDigests(b *testing.B) {
	dst := make([]Digest, MaxPerExtent)
	for _, c := range edges.Contents()[:3] {
		data := c.Make(ExtentSize, 1)
		b.Run(c.Name, func(b *testing.B) {
			b.SetBytes(ExtentSize)
			for b.Loop() {
				Digests(dst, data, DefaultSize)
			}
		})
	}
}
