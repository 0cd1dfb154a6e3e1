//go:build linux

package device

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const cacheBenchSize = 512 * mib

// benchPath is a device or file that may be overwritten, or a new file.
func benchPath(b *testing.B) string {
	if path := os.Getenv("BLOCKDEV_BENCH_DEVICE"); path != "" {
		return path
	}
	return filepath.Join(b.TempDir(), "disk.img")
}

// BenchmarkRead reads what is not cached, 1 MiB at a time, by one goroutine, as MB/s.
func BenchmarkRead(b *testing.B) {
	path := benchPath(b)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf, err := unix.Mmap(-1, 0, mib, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON) // aligned
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Munmap(buf)
	rand.NewChaCha8([32]byte{}).Read(buf) // what a compressing device stores as it is
	for off := int64(0); off < cacheBenchSize; off += mib {
		if _, err := f.WriteAt(buf, off); err != nil {
			b.Fatal(err)
		}
	}
	plain := func(flag int) func(b *testing.B) {
		return func(b *testing.B) {
			r, err := os.OpenFile(path, os.O_RDONLY|flag, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			adviseSequential(r)
			readEach(b, f, r)
		}
	}
	b.Run("buffered", plain(0))
	b.Run("direct", plain(unix.O_DIRECT))
	b.Run("object", func(b *testing.B) {
		o, err := OpenRead(path)
		if err != nil {
			b.Fatal(err)
		}
		defer o.Close()
		readEach(b, f, o)
	})
	b.Run("past", func(b *testing.B) {
		o, err := OpenRead(path)
		if err != nil {
			b.Fatal(err)
		}
		defer o.Close()
		o.ReadPast(DirectOn)
		readEach(b, f, o)
	})
}

func readEach(b *testing.B, f *os.File, r interface {
	ReadAt(p []byte, off int64) (int, error)
}) {
	buf, err := unix.Mmap(-1, 0, mib, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Munmap(buf)
	b.SetBytes(cacheBenchSize)
	for b.Loop() {
		b.StopTimer()
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for off := int64(0); off < cacheBenchSize; off += mib {
			if _, err := r.ReadAt(buf, off); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkWrite writes everything and tells how much of the time is the sync at the end.
func BenchmarkWrite(b *testing.B) {
	path := benchPath(b)
	if f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600); err != nil {
		b.Fatal(err)
	} else {
		f.Close()
	}
	buf := make([]byte, mib)
	for i := range buf {
		buf[i] = byte(i * i >> 3)
	}
	b.SetBytes(cacheBenchSize)
	var syncing time.Duration
	for b.Loop() {
		o, err := OpenWrite(path, WriteOptions{Size: cacheBenchSize})
		if err != nil {
			b.Fatal(err)
		}
		for off := int64(0); off < cacheBenchSize; off += mib {
			if _, err := o.WriteAt(buf, off); err != nil {
				b.Fatal(err)
			}
		}
		start := time.Now()
		if err := o.Sync(); err != nil {
			b.Fatal(err)
		}
		syncing += time.Since(start)
		if err := o.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(100*syncing.Seconds()/b.Elapsed().Seconds(), "%sync")
}
