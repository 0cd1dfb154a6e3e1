package harness

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

func TestLoop(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	d := Loop(t, size)
	im := Image{Size: size, Zero: 0.2, Seed: 9}
	im.Write(t, d.Path)
	file := im.File(t)
	Same(t, file, d.Path)
	Same(t, file, d.Backing)
	if SHA256(t, file) != SHA256(t, d.Path) {
		t.Error("digests of the same bytes differ")
	}
	if !bytes.Equal(ReadBack(t, file), ReadBack(t, d.Path)) {
		t.Error("ReadBack of the same bytes differs")
	}

	again := LoopOn(t, file, "--read-only", "--sector-size=4096")
	if err := os.WriteFile(again.Path, make([]byte, 4096), 0); err == nil {
		t.Error("a read-only device was written to")
	}
}

func TestLoop_detaches(t *testing.T) {
	t.Parallel()
	require.Need(t, require.Loop)
	var d *Device
	t.Run("Inner", func(t *testing.T) { d = Loop(t, 1<<20) })
	name := filepath.Base(d.Path)
	if backing, err := os.ReadFile("/sys/block/" + name + "/loop/backing_file"); err == nil {
		if string(bytes.TrimSpace(backing)) == d.Backing {
			t.Errorf("%s is still attached", d.Path)
		}
	}
}

// failing stands for a test that is expected to fail, and ends like one.
type failing struct {
	testing.TB
	text string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.text = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestSame(t *testing.T) {
	dir := t.TempDir()
	a, b, longer := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "longer")
	writeFile(t, a, []byte("0123456789"))
	writeFile(t, b, []byte("012345678X"))
	writeFile(t, longer, []byte("0123456789+"))
	for _, c := range []struct {
		name string
		same func(testing.TB)
		ok   bool
	}{
		{"Equal", func(t testing.TB) { Same(t, a, a) }, true},
		{"Differ", func(t testing.TB) { Same(t, a, b) }, false},
		{"Longer", func(t testing.TB) { Same(t, a, longer) }, false},
		{"Prefix", func(t testing.TB) { SamePrefix(t, a, longer, 10) }, true},
		{"PrefixDiffers", func(t testing.TB) { SamePrefix(t, a, b, 10) }, false},
		{"PrefixEnds", func(t testing.TB) { SamePrefix(t, a, b, 9) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &failing{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.same(f)
			}()
			<-done
			if ok := f.text == ""; ok != c.ok {
				t.Errorf("same is %v, want %v: %s", ok, c.ok, f.text)
			}
		})
	}
}
