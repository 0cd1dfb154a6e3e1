//go:build linux

package device

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// BenchmarkView is what one core does to a cached image of 1 GiB, half noise, a quarter zeros and a quarter text, as a scan
// has it: with the content where it lies, and after it was read into a buffer. cpu-s/GiB is processor time of the thread.
func BenchmarkView(b *testing.B) {
	const size = 1 << 30
	path := b.TempDir() + "/image"
	harness.Image{Size: size, Zero: 0.25, Text: 0.25, Area: 64 << 20, Seed: 1}.Write(b, path)
	o, err := OpenRead(path)
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close()
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
			if !o.View(off, mib, use) {
				b.Fatalf("%d bytes at %d are not cached, or the kernel is older than Linux 6.5", mib, off)
			}
		}
	}
	for _, c := range []struct {
		name string
		each func(b *testing.B, off int64)
	}{
		{"touched", view(func(data []byte) {
			for i := 0; i < len(data); i += block.DefaultSize {
				touched |= data[i]
			}
		})},
		{"hashed", view(hash)},
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
			start := threadTime(b)
			for b.Loop() {
				for off := int64(0); off < size; off += mib {
					c.each(b, off)
				}
			}
			b.ReportMetric((threadTime(b)-start).Seconds()/float64(b.N), "cpu-s/GiB")
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
