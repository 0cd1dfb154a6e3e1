//go:build unix

package bench

import (
	"io"
	"os"
	"syscall"
	"testing"
)

// Devices or images of the user instead of made-up ones. The target is overwritten, so it must be named twice.
const (
	sourceVariable  = "BLOCKDEV_BENCH_SOURCE"
	targetVariable  = "BLOCKDEV_BENCH_TARGET"
	confirmVariable = "BLOCKDEV_BENCH_OVERWRITE"
)

// anyBed gives a bed with what the variables name, or else with an image in memory.
func anyBed(b *testing.B) *bed {
	source, target := os.Getenv(sourceVariable), os.Getenv(targetVariable)
	if source == "" && target == "" {
		return madeUp(b)
	}
	if source == "" || target == "" {
		b.Fatalf("%s is %q and %s is %q: set both or none", sourceVariable, source, targetVariable, target)
	}
	if confirmed := os.Getenv(confirmVariable); confirmed != target {
		b.Fatalf("%s would be overwritten: set %s=%s, which is now %q", target, confirmVariable, target, confirmed)
	}
	if same(b, source, target) {
		b.Fatalf("%s and %s are the same: name two devices or images", source, target)
	}
	size, err := length(source)
	if err != nil {
		b.Fatal(err)
	}
	room, err := length(target)
	if err != nil {
		b.Fatal(err)
	}
	if size != room {
		b.Fatalf("%s has %d bytes and %s has %d: they must be equal", source, size, target, room)
	}
	t := newBed(b)
	t.src, t.dst, t.size, t.given = source, target, size, true
	t.makeEqual()
	return t
}

// makeEqual writes to a given target for the first time, by the tool, which refuses one that is mounted or in use.
func (t *bed) makeEqual() {
	from, to := "blockdev:localhost"+t.src, "blockdev:localhost"+t.dst
	if r := t.client.Run(t.b, "copyto", "--ignore-times", from, to); r.Code != 0 {
		t.b.Fatalf("cannot make %s equal to %s: %s", t.dst, t.src, r.Stderr)
	}
	*t.unequal = false
}

// same reports whether two paths are one file, or nodes of one device.
func same(b *testing.B, one, other string) bool {
	x, err := os.Stat(one)
	if err != nil {
		b.Fatal(err)
	}
	y, err := os.Stat(other)
	if err != nil {
		b.Fatal(err)
	}
	dev := func(i os.FileInfo) uint64 { return uint64(i.Sys().(*syscall.Stat_t).Rdev) }
	return os.SameFile(x, y) || x.Mode()&os.ModeDevice != 0 && y.Mode()&os.ModeDevice != 0 && dev(x) == dev(y)
}

// length is the size of a device or file that is there.
func length(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Seek(0, io.SeekEnd) // a device has no size in its stat
}
