//go:build vm

package inside

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// tableOf is a table over a device of size bytes that has the lines of faults, in order, and is linear between them.
func tableOf(dev string, size int64, faults ...fault) string {
	var lines []string
	at := int64(0)
	linear := func(end int64) {
		if at < end {
			lines = append(lines, fmt.Sprintf("%s %s linear %s %s", sectors(at), sectors(end-at), dev, sectors(at)))
		}
	}
	for _, f := range faults {
		linear(f.off)
		lines = append(lines, fmt.Sprintf("%s %s %s", sectors(f.off), sectors(f.n), strings.ReplaceAll(f.target, "DEV", dev+" "+sectors(f.off))))
		at = f.off + f.n
	}
	linear(size)
	return strings.Join(lines, "\n")
}

// fault is a range with another target of the device mapper. DEV in it stands for the device and the place below.
type fault struct {
	off, n int64
	target string
}

// salvage copies src to dst, going on after read errors, and tells the gaps.
func salvage(t *testing.T, src, dst string, size int64, how wire.ReadErrors) ([]wire.Gap, error) {
	t.Helper()
	from := session(t)
	req := &wire.Open{ReadErrors: how}
	req.Path = src
	if _, err := from.Open(t.Context(), req); err != nil {
		return nil, err
	}
	defer from.Close(t.Context(), false, 0)
	var gaps []wire.Gap
	from.OnGaps(func(more []wire.Gap) { gaps = append(gaps, more...) })
	to, err := opened(t, dst, size, true)
	if err != nil {
		return nil, err
	}
	defer to.Close(t.Context(), false, 0)
	if _, err := host.Join(t.Context(), from, to, block.Range{Length: size, BlockSize: block.DefaultSize}, func(int64) {}); err != nil {
		return gaps, err
	}
	return gaps, to.Close(t.Context(), true, 1)
}

// A disk with bad sectors, as the device mapper plays one: the copy stops at the first, or goes on around all of them.
func TestBadDisk_BadSectors(t *testing.T) {
	const size = 24 * mib
	under := harness.Loop(t, size)
	image := filepath.Join(t.TempDir(), "image")
	harness.Image{Size: size, Seed: 1}.Write(t, image)
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(under.Path, data, 0); err != nil {
		t.Fatal(err)
	}
	run(t, "blockdev", "--flushbufs", under.Path)
	bad := []fault{{5*mib + 4096, 512, "error"}, {9 * mib, 3 * 4096, "error"}, {13*mib + 8192, 2 * mib, "error"}, {size - 4096, 4096, "error"}}
	src := dm(t, "bad", tableOf(under.Path, size, bad...))

	dst := harness.Loop(t, size)
	if err := os.WriteFile(dst.Path, bytes.Repeat([]byte{7}, size), 0); err != nil {
		t.Fatal(err)
	}
	run(t, "blockdev", "--flushbufs", dst.Path)
	refused(t, copyOnce(t, src, dst.Path, size), wire.CodeIO, src, "at byte "+fmt.Sprint(bad[0].off), "bytes of")

	harness.Tried(t, "bad-sectors", 3*len(bad)) // stop, zero, skip
	for how, there := range map[wire.ReadErrors]byte{wire.ReadSkip: 7, wire.ReadZero: 0} {
		if err := os.WriteFile(dst.Path, bytes.Repeat([]byte{7}, size), 0); err != nil {
			t.Fatal(err)
		}
		run(t, "blockdev", "--flushbufs", dst.Path)
		gaps, err := salvage(t, src, dst.Path, size, how)
		if err != nil {
			t.Fatalf("%d: %v", how, err)
		}
		got := harness.ReadBack(t, dst.Path)
		want := bytes.Clone(data)
		total := int64(0)
		for _, g := range gaps {
			copy(want[g.Offset:g.End()], bytes.Repeat([]byte{there}, int(g.Length)))
			total += g.Length
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d: the target holds something else", how)
		}
		for _, f := range bad {
			for at := f.off; at < f.off+f.n; at += 512 {
				if !inGaps(gaps, at) {
					t.Fatalf("%d: byte %d is in no gap: %v", how, at, gaps)
				}
			}
		}
		if total > 2*mib+3*4096+2*4096+2*(64<<10) {
			t.Errorf("%d: %d bytes were given up: %v", how, total, gaps)
		}
	}
}

func inGaps(gaps []wire.Gap, off int64) bool {
	for _, g := range gaps {
		if g.Offset <= off && off < g.End() {
			return true
		}
	}
	return false
}

// A disk that vanishes altogether is not one of zeros.
func TestBadDisk_Gone(t *testing.T) {
	harness.Tried(t, "disk-gone", 1)
	const size = 16 * mib
	under, dst := harness.Loop(t, size), harness.Loop(t, size)
	for path, b := range map[string]byte{under.Path: 1, dst.Path: 7} {
		if err := os.WriteFile(path, bytes.Repeat([]byte{b}, size), 0); err != nil {
			t.Fatal(err)
		}
		run(t, "blockdev", "--flushbufs", path)
	}
	src := dm(t, "gone", tableOf(under.Path, size, fault{0, size, "flakey DEV 0 3600"}))
	_, err := salvage(t, src, dst.Path, size, wire.ReadZero)
	refused(t, err, wire.CodeIO, "nothing can be read", src)
	if !bytes.Equal(harness.ReadBack(t, dst.Path), bytes.Repeat([]byte{7}, size)) {
		t.Error("the target was changed")
	}
}

// A write that fails ends the copy with the device and the bytes, soon: most of the source is not even read.
func TestBadDisk_Write(t *testing.T) {
	const size, chunk = 112 * mib, 64 << 10
	src := harness.Loop(t, size)
	harness.Image{Size: size, Seed: 3}.Write(t, src.Path)
	for _, tt := range []struct {
		name, fault string // the second of harness.Faults
		make        func(t *testing.T) string
		code        wire.Code
		most        int64 // bytes of the source that are read
		says        []string
	}{
		{"flakey", "write-error", func(t *testing.T) string {
			under := harness.Loop(t, size)
			return dm(t, "flaky", tableOf(under.Path, size, fault{8 * mib, 4 * mib, "flakey DEV 0 3600 1 error_writes"}))
		}, wire.CodeIO, 64 * mib, nil},
		{"full pool", "pool-full", func(t *testing.T) string {
			return newPool(t, chunk, "error_if_no_space").volume(t, "overcommitted", size)
		}, wire.CodeNoSpace, size, []string{"its thin pool has no space left"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			harness.Tried(t, tt.fault, 1)
			target := tt.make(t)
			before := counted(t, src.Path)
			err := copyOnce(t, src.Path, target, size)
			refused(t, err, tt.code, append(tt.says, target, "bytes of", "at byte")...)
			var e *wire.Error
			if !errors.As(err, &e) || e.Offset < 0 {
				t.Errorf("no offset in %v", err)
			}
			if read := counted(t, src.Path).since(before).read * 512; read > tt.most {
				t.Errorf("%d MiB of the source were read before the error came", read/mib)
			}
			if e != nil {
				t.Log(e.Text)
			}
		})
	}
}

// A disk that stores other bytes than it is given is found out by reading back, and only by that.
func TestBadDisk_ReadBack(t *testing.T) {
	harness.Tried(t, "disk-lies", 1)
	const size = 16 * mib
	src, under := harness.Loop(t, size), harness.Loop(t, size)
	harness.Image{Size: size, Seed: 4}.Write(t, src.Path)
	target := dm(t, "liar", tableOf(under.Path, size, fault{4 * mib, mib, "flakey DEV 0 3600 5 corrupt_bio_byte 32 w 170 0"}))
	back := func() error {
		from, err := opened(t, src.Path, -1, false)
		if err != nil {
			return err
		}
		defer from.Close(t.Context(), false, 0)
		to := session(t)
		req := &wire.Open{Write: true, Size: size, Verify: wire.VerifyWritten}
		req.Path = target
		if _, err := to.Open(t.Context(), req); err != nil {
			return err
		}
		defer to.Close(t.Context(), false, 0)
		_, err = host.Join(t.Context(), from, to, block.Range{Length: size, BlockSize: block.DefaultSize}, func(int64) {})
		return err
	}
	if err := copyOnce(t, src.Path, target, size); err != nil {
		t.Fatal(err)
	}
	refused(t, back(), wire.CodeCorrupted, "at byte 4194304", "does not keep")
	reload(t, target, "0 "+sectors(size)+" linear "+under.Path+" 0") // healed
	if err := back(); err != nil {
		t.Fatal(err)
	}
	harness.Same(t, src.Path, target)
}
