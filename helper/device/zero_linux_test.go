package device

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// onDisk is the space in bytes that a file takes, by stat(2).
func onDisk(t *testing.T, path string) int64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Sys().(*syscall.Stat_t).Blocks * 512
}

// Every way to zero a range gives zeros, there and only there, and the ones that
// can free it do.
func TestObject_Zero(t *testing.T) {
	const size = 8 * mib
	tests := []struct {
		name               string
		device             bool
		noPunch, noZeroOut bool
		frees              bool
	}{
		{"FileHole", false, false, false, true},
		{"FileWritten", false, true, true, false},
		{"DeviceHole", true, false, false, true},
		{"DeviceZeroOut", true, true, false, false},
		{"DeviceWritten", true, true, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "disk.img")
			model := pattern(size)
			writeFile(t, file, model)
			target := file
			if tt.device {
				target = loop(t, file)
			}
			o, err := OpenWrite(target, WriteOptions{Size: size})
			if err != nil {
				t.Fatal(err)
			}
			defer o.Abort()
			o.noPunch.Store(tt.noPunch)
			o.noZeroOut.Store(tt.noZeroOut)
			before := onDisk(t, file)
			for _, r := range [][2]int64{{0, 0}, {3, 5}, {511, 2}, {4096, 4096}, {10_000, 20_001}, {mib - 1, 2*mib + 2}, {4 * mib, 4 * mib}} {
				if err := o.Zero(r[0], r[1]); err != nil {
					t.Fatalf("%d bytes at %d: %v", r[1], r[0], err)
				}
				clear(model[r[0] : r[0]+r[1]])
			}
			if err := o.Sync(); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, size)
			f, err := os.Open(target)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, model) {
				t.Errorf("content differs from the model: %v", err)
			}
			if freed := before - onDisk(t, file); tt.frees != (freed >= 5*mib) {
				t.Errorf("%d bytes freed", freed)
			}
			if o.noPunch.Load() != tt.noPunch || o.noZeroOut.Load() != tt.noZeroOut {
				t.Error("another way was used than meant")
			}
		})
	}
}

// A follower frees space although what it zeroes is dirty in the page cache of a
// device that another descriptor claims.
func TestObject_ZeroDirtyOfFollower(t *testing.T) {
	const size = 8 * mib
	file := image(t, size)
	dev := loop(t, file)
	lead, err := OpenWrite(dev, WriteOptions{Size: size, Claim: Token{1}, Lead: true})
	if err != nil {
		t.Fatal(err)
	}
	defer lead.Abort()
	o, err := OpenWrite(dev, WriteOptions{Size: size, Claim: Token{1}})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Abort()
	for range 20 { // the kernel may write pages out at any time
		if _, err := o.WriteAt(pattern(size), 0); err != nil {
			t.Fatal(err)
		}
		if err := o.Zero(mib, 6*mib); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Sync(); err != nil {
		t.Fatal(err)
	}
	if used := onDisk(t, file); used > 3*mib || o.noPunch.Load() {
		t.Errorf("%d bytes allocated, hole punching given up: %v", used, o.noPunch.Load())
	}
}

// Writing zeros because nothing else works must not fill a sparse file.
func TestObject_ZeroKeepsHoles(t *testing.T) {
	o := create(t, filepath.Join(t.TempDir(), "disk.img"), 64*mib)
	o.noPunch.Store(true)
	if _, err := o.WriteAt([]byte{1}, 32*mib); err != nil {
		t.Fatal(err)
	}
	if err := o.Zero(0, 64*mib); err != nil {
		t.Fatal(err)
	}
	if err := o.Sync(); err != nil {
		t.Fatal(err)
	}
	if used := onDisk(t, o.Path()); used > 64<<10 {
		t.Errorf("%d bytes allocated", used)
	}
}

func TestObject_Data(t *testing.T) {
	o := create(t, filepath.Join(t.TempDir(), "disk.img"), 1<<40)
	for _, off := range []int64{mib, 1 << 39} {
		if _, err := o.WriteAt(pattern(64<<10), off); err != nil {
			t.Fatal(err)
		}
	}
	const end = 1 << 40
	tests := []struct{ off, end, start, stop int64 }{
		{0, end, mib, 2 * mib},
		{mib + 5, end, mib + 5, 2 * mib},
		{0, mib + 7, mib, mib + 7},
		{0, mib, mib, mib},
		{mib + 64<<10, end, 1 << 39, 1<<39 + mib},
		{1<<39 + 64<<10, end, end, end},
		{end, end, end, end},
		{5, 5, 5, 5},
	}
	for _, tt := range tests {
		start, stop, err := o.Data(tt.off, tt.end)
		if err != nil || start != tt.start || stop != tt.stop {
			t.Errorf("Data(%d, %d) = %d, %d, %v; want %d, %d", tt.off, tt.end, start, stop, err, tt.start, tt.stop)
		}
	}
	if _, _, err := o.Data(5, 4); err == nil {
		t.Error("a range that ends before it starts")
	}
	if info := o.Info(); info.Allocated != 0 {
		t.Errorf("new file: %d bytes allocated", info.Allocated)
	}
}

func TestObject_DataOfDevice(t *testing.T) {
	require.Need(t, require.Root, require.Loop)
	o, err := OpenRead(loop(t, image(t, mib)))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if start, stop, err := o.Data(512, 4096); start != 512 || stop != 4096 || err != nil {
		t.Errorf("%d, %d, %v", start, stop, err)
	}
}
