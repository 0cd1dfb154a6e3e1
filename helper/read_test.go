package helper

import (
	"bytes"
	"crypto/sha256"
	"os"
	"runtime"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// assemble puts the frames of a Read together and checks what each may be.
func assemble(t *testing.T, off, n int64, frames []wire.Frame) (got []byte, data int64) {
	t.Helper()
	got = make([]byte, 0, n)
	hole := false
	for _, f := range frames {
		at := off + int64(len(got))
		switch f.Type {
		case wire.TypeHole:
			var m wire.Hole
			if err := f.Decode(&m); err != nil || m.Offset != at || m.Length > n {
				t.Fatalf("%+v at %d, %v", m, at, err)
			}
			if hole {
				t.Error("two holes in a row")
			}
			hole = true
			got = append(got, make([]byte, m.Length)...)
		default:
			var m wire.Data
			if err := f.Decode(&m); err != nil || m.Offset != at {
				t.Fatalf("%d bytes at %d instead of %d, %v", len(m.Data), m.Offset, at, err)
			}
			for b := m.Data; len(b) > 0; b = b[min(len(b), block.DefaultSize):] {
				if block.IsZero(b[:min(len(b), block.DefaultSize)]) {
					t.Errorf("zeros as data at %d", at)
				}
			}
			hole = false
			data += int64(len(m.Data))
			got = append(got, m.Data...)
		}
	}
	return got, data
}

func TestServe_Read(t *testing.T) {
	for _, size := range edges.Sizes() {
		for _, content := range edges.Contents() {
			want := content.Make(size, 3)
			c := connect(t, Policy{})
			c.call(openRead(file(t, "image", want)), new(wire.Opened))
			n := int64(size)
			for _, r := range [][2]int64{{0, n}, {0, n / 2}, {n / 2, n - n/2}, {n, 0}, {n / 3, min(n/3, 1)}, {max(n-1, 0), min(n, 1)}, {1, max(n-2, 0)}} {
				if r[0] > n {
					continue
				}
				c.send(&wire.Read{Offset: r[0], Length: r[1], Window: 1 << 40, Compress: wire.CompressOff})
				frames, err := c.end()
				if err != nil {
					t.Fatal(err)
				}
				got, data := assemble(t, r[0], r[1], frames)
				if !bytes.Equal(got, want[r[0]:r[0]+r[1]]) {
					t.Errorf("%d %s: bytes %d+%d differ", size, content.Name, r[0], r[1])
				}
				if content.Name == "zero" && data > 0 {
					t.Errorf("%d zeros came as %d bytes of data", size, data)
				}
			}
			c.hangUp()
		}
	}
}

// Holes, zeros that are stored and data, as on a real disk.
func TestServe_ReadImage(t *testing.T) {
	path := harness.Image{Size: 40<<20 + 777, Hole: 0.3, Zero: 0.2, Text: 0.2, Seed: 4}.File(t)
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, Policy{})
	c.call(openRead(path), new(wire.Opened))
	c.send(&wire.Read{Length: int64(len(want)), Window: 1 << 40, Compress: wire.CompressOff})
	frames, err := c.end()
	if err != nil {
		t.Fatal(err)
	}
	got, data := assemble(t, 0, int64(len(want)), frames)
	if !bytes.Equal(got, want) {
		t.Error("content differs")
	}
	if limit := int64(len(want)) * 6 / 10; data > limit {
		t.Errorf("%d bytes of data, more than %d", data, limit)
	}
	var sum wire.Sum
	c.call(&wire.Hash{}, &sum)
	if sum.Digest != sha256.Sum256(want) {
		t.Error("hash differs")
	}
	c.hangUp()
}

func TestServe_ReadWindow(t *testing.T) {
	want := edges.Contents()[1].Make(8<<20, 6)
	c := connect(t, Policy{})
	c.call(openRead(file(t, "image", want)), new(wire.Opened))
	for _, window := range []int64{1, 4096, readChunk, readChunk + 1, 3 << 20} {
		c.send(&wire.Read{Length: int64(len(want)), Window: window, Compress: wire.CompressOff})
		var all []byte
		granted, some := window, c.quiet()
		for {
			part, _ := assemble(t, int64(len(all)), int64(len(want)), some)
			all = append(all, part...)
			if over := int64(len(all)) - granted; over >= readChunk || over < 0 {
				t.Fatalf("window %d: %d bytes came of %d granted", window, len(all), granted)
			}
			if granted > min(4*window, int64(len(want))/2) {
				break
			}
			granted += window
			c.send(&wire.Window{Bytes: window})
			some = c.quiet()
			if granted < int64(len(all)) && len(some) > 0 {
				t.Fatalf("window %d: more bytes came while %d of %d were granted", window, granted, len(all))
			}
		}
		c.fails(wire.CodeCancelled, &wire.Cancel{})
	}
	c.usable()
	c.hangUp()
}

func TestServe_Hash(t *testing.T) {
	c := connect(t, Policy{})
	for _, size := range edges.Sizes() {
		for _, content := range edges.Contents() {
			data := content.Make(size, 8)
			path := file(t, "image", data)
			c.call(openRead(path), new(wire.Opened))
			var sum wire.Sum
			c.call(&wire.Hash{}, &sum)
			if sum.Digest != sha256.Sum256(data) {
				t.Errorf("%d %s: hash differs", size, content.Name)
			}
			c.call(&wire.Close{}, nil)
		}
	}
	c.hangUp()
}

// A hash that takes long gives signs of life, also over a hole.
func TestServe_HashProgress(t *testing.T) {
	path := file(t, "image", nil)
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Fatal(err)
	}
	c := connect(t, Policy{})
	c.call(openRead(path), new(wire.Opened))
	c.send(&wire.Hash{})
	f, ok := c.next()
	var m wire.Progress
	if !ok || f.Decode(&m) != nil || m.Done <= 0 || m.Done >= 1<<40 {
		t.Fatalf("%#x: %+v", f.Type, m)
	}
	c.send(&wire.Cancel{})
	if _, err := c.end(); err == nil {
		t.Error("hash of a terabyte")
	}
	c.usable()
	c.hangUp()
}

// The requests on one object compress with the memory of the first.
func TestServe_ReadsCompressedAgain(t *testing.T) {
	const runs = 40
	want := bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog\n"), readChunk/44)
	c := connect(t, Policy{})
	c.call(openRead(file(t, "image", want)), new(wire.Opened))
	var before, after runtime.MemStats
	for i := range 1 + runs {
		if i == 1 {
			runtime.ReadMemStats(&before)
		}
		c.send(&wire.Read{Length: int64(len(want)), Window: 1 << 40, Compress: wire.CompressZstd})
		frames, err := c.end()
		if err != nil || len(frames) != 1 || len(frames[0].Payload) > len(want)/10 {
			t.Fatal(len(frames), err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / runs; each > 2*readChunk { // one buffer is of each request
		t.Errorf("a request allocates %d bytes", each)
	}
}
