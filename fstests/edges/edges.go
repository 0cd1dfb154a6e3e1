// Package edges is the one list of sizes and contents at which block arithmetic goes wrong, shared by every test.
//
// It imports nothing, neither of the project nor of the standard library, so that the tests of every package may
// use it. Its contents are the same on every run.
package edges

// The block and extent size in bytes that the lists are built around.
const (
	Block  = 4 << 10
	Extent = 1 << 20
)

// Sizes returns the lengths in bytes of devices and images that every range operation must be tried with.
func Sizes() []int {
	return []int{
		0, 1, 511, 512,
		Block - 1, Block, Block + 1,
		2*Block + 500,
		Extent - 1, Extent, Extent + 1,
		3*Extent + 513,
	}
}

// Content is a way to fill an image.
type Content struct {
	Name string // fit for the name of a subtest
	fill func(b []byte, block int, r *random)
}

// Contents returns the ways to fill an image that tell apart how zero blocks and digests are handled.
func Contents() []Content {
	return []Content{
		{"zero", func([]byte, int, *random) {}},
		{"dense", func(b []byte, _ int, r *random) { r.fill(b) }},
		{"alternating", func(b []byte, block int, r *random) {
			if block%2 == 1 {
				r.fill(b)
			}
		}},
		// A scan that stops short of the end takes these blocks for zero.
		{"lastbyte", func(b []byte, _ int, _ *random) { b[len(b)-1] = 1 }},
		// A scan that starts late takes these blocks for zero.
		{"firstbyte", func(b []byte, _ int, _ *random) { b[0] = 1 }},
	}
}

// Make returns size bytes of the content. The same seed gives the same bytes; other seeds change only the
// contents that have random bytes.
func (c Content) Make(size int, seed uint64) []byte {
	b := make([]byte, size)
	r := &random{seed}
	for block, at := 0, 0; at < size; block, at = block+1, at+Block {
		c.fill(b[at:min(at+Block, size)], block, r)
	}
	return b
}

// Target is what a transfer finds at its destination.
type Target struct {
	Name string // fit for the name of a subtest
	Data []byte // nil when the destination does not exist
}

// Targets returns what a transfer of the source may find at its destination: nothing, the same, the same length
// with other bytes, shorter and longer. None of them aliases the source.
func Targets(source []byte) []Target {
	n := len(source)
	dense := Contents()[1]
	near := append([]byte{}, source...)
	if n > 0 {
		near[n-1] ^= 0xff
	}
	return []Target{
		{"absent", nil},
		{"empty", []byte{}},
		{"equal", append([]byte{}, source...)},
		{"last byte differs", near},
		{"zero", make([]byte, n)},
		{"other", dense.Make(n, 77)},
		{"shorter by a byte", append([]byte{}, source[:max(n-1, 0)]...)},
		{"shorter by half", dense.Make(n/2, 78)},
		{"longer by a byte", append(append([]byte{}, source...), 1)},
		{"longer by an extent", dense.Make(n+Extent, 79)},
	}
}

// random is splitmix64: small, good enough to be incompressible, and without an import.
type random struct{ state uint64 }

func (r *random) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// fill writes random bytes none of which is zero, so that no cut of them is a zero block.
func (r *random) fill(b []byte) {
	for len(b) > 0 {
		word := r.next()
		for i := 0; i < 8 && len(b) > 0; i++ {
			b[0] = byte(word) | 1
			word >>= 8
			b = b[1:]
		}
	}
}
