//go:build linux

package device

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// BenchmarkView is what one core does to a cached image of 1 GiB, half noise, a quarter zeros and a quarter text, as a scan
// has it: with the content where it lies, copied in parts of 256 KiB, and read as a whole; "first" is for the first time
// since it was written. cpu-s/GiB is processor time of the thread.
func BenchmarkView(b *testing.B) {
	const size = 1 << 30
	path := b.TempDir() + "/image"
	var o *Object
	again := func() { // writes it anew
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			b.Fatal(err)
		}
		harness.Image{Size: size, Zero: 0.25, Text: 0.25, Area: 64 << 20, Seed: 1}.Write(b, path)
		if o != nil {
			o.Close()
		}
		var err error
		if o, err = OpenRead(path); err != nil {
			b.Fatal(err)
		}
	}
	again()
	defer func() { o.Close() }()
	digests := make([]block.Digest, block.Count(mib, block.DefaultSize))
	touched := byte(0)
	hash := func(data []byte) {
		if !block.IsZero(data) {
			block.Digests(digests, data, block.DefaultSize)
		}
	}
	buf := make([]byte, mib)
	view := func(use func(data []byte)) func(b *testing.B, off int64) {
		return func(b *testing.B, off int64) {
			if !o.Mapped(off, mib, use) {
				b.Fatalf("%d bytes at %d are not cached, or the kernel is older than Linux 6.5", mib, off)
			}
		}
	}
	touch := view(func(data []byte) {
		for i := 0; i < len(data); i += block.DefaultSize {
			touched |= data[i]
		}
	})
	for _, c := range []struct {
		name string
		each func(b *testing.B, off int64)
	}{
		{"touched-first", touch},
		{"touched", touch},
		{"hashed", view(hash)},
		{"copied-and-hashed", func(b *testing.B, off int64) {
			if !o.copied(off, mib, buf[:256<<10], hash) {
				b.Fatalf("%d bytes at %d are not cached", mib, off)
			}
		}},
		{"read-and-hashed", func(b *testing.B, off int64) {
			if _, err := o.ReadAt(buf, off); err != nil {
				b.Fatal(err)
			}
			hash(buf)
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			b.SetBytes(size)
			var took time.Duration
			for b.Loop() {
				if c.name == "touched-first" {
					b.StopTimer()
					again()
					b.StartTimer()
				}
				start := threadTime(b)
				for off := int64(0); off < size; off += mib {
					c.each(b, off)
				}
				took += threadTime(b) - start
			}
			b.ReportMetric(took.Seconds()/float64(b.N), "cpu-s/GiB")
		})
	}
}

// threadTime is the processor time of this thread.
func threadTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
