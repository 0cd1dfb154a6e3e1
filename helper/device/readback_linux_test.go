package device

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// What is read back is what the disk below has now, not what the cache of the device still says, also for the part of
// the device that direct reads do not take.
func TestReadBack(t *testing.T) {
	const size = 4*mib + 512
	backing := image(t, size)
	dev := loop(t, backing)
	o, err := OpenWrite(dev, WriteOptions{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{2}).Read(content)
	if _, err := o.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	if err := o.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := o.ReadAt(make([]byte, size), 0); err != nil { // all of it is in the cache
		t.Fatal(err)
	}
	for _, at := range []int64{0, 2*mib + 17, 4*mib - 1, size - 1} {
		f, err := os.OpenFile(backing, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{^content[at]}, at); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	check := func(name string, read func(p []byte, off int64) error) (differ []int64) {
		t.Helper()
		buf := alignedMiB()
		for off := int64(0); off < size; off += mib {
			p := buf[:min(mib, size-off)]
			if err := read(p, off); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for i, b := range p {
				if b != content[off+int64(i)] {
					differ = append(differ, off+int64(i))
				}
			}
		}
		return differ
	}
	cached := check("cache", func(p []byte, off int64) error { _, err := o.raw().ReadAt(p, off); return err })
	if len(cached) != 0 {
		t.Errorf("the cache already differs at %d", cached)
	}
	if got := check("read back", o.ReadBack); len(got) != 4 {
		t.Errorf("found the changed bytes at %d", got)
	}
	if o.back.f == nil || o.back.fail.Load() {
		t.Error("the device was not read past the cache")
	}
	o.back.fail.Store(true) // as where the system does not take such reads
	if got := check("dropped", o.ReadBack); len(got) != 4 {
		t.Errorf("with the cache dropped: found the changed bytes at %d", got)
	}
}

// A file is read back whole, also behind its last whole page.
func TestReadBack_File(t *testing.T) {
	const size = 3*mib + 777
	path := image(t, size)
	o, err := OpenWrite(path, WriteOptions{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{3}).Read(content)
	if _, err := o.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	if err := o.Sync(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, size)
	buf := alignedMiB()
	for off := int64(0); off < size; off += mib {
		p := buf[:min(mib, size-off)]
		if err := o.ReadBack(p, off); err != nil {
			t.Fatal(err)
		}
		copy(got[off:], p)
	}
	if !bytes.Equal(got, content) {
		t.Error("other bytes than were written")
	}
	if err := o.ReadBack(buf, size-1); err == nil {
		t.Error("read back past the end")
	}
	if err := unix.Truncate(path, mib); err != nil {
		t.Fatal(err)
	}
	if err := o.ReadBack(buf, mib); err == nil {
		t.Error("read back what was cut")
	}
}
