//go:build linux

package sha256x

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reference is the name of the implementation that the others are compared with.
const reference = "crypto-sha256"

// implementations are the functions that digest all blocks of data.
func implementations(b *testing.B) (names []string, digest func(name string, dst [][Size]byte, data []byte, size int)) {
	all := plans(b)
	which := sequence(1 << 16 / 2)
	names = append([]string{reference}, Kernels()...)
	return names, func(name string, dst [][Size]byte, data []byte, size int) {
		if name != reference {
			sum(all[name], dst, data, size, which[:len(data)/size])
			return
		}
		for i := range len(data) / size {
			dst[i] = sha256.Sum256(data[i*size : (i+1)*size])
		}
	}
}

// perCPU reports how many bytes one second of processor time of this thread is worth. Unlike MB/s, that does not
// depend on what else the machine does.
func perCPU(b *testing.B, bytes int, run func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b.SetBytes(int64(bytes))
	start := threadTime(b)
	for b.Loop() {
		run()
	}
	used := threadTime(b) - start
	b.ReportMetric(float64(bytes)*float64(b.N)/1e6/used.Seconds(), "MB/cpu-s")
}

func threadTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkSum(b *testing.B) {
	names, digest := implementations(b)
	for _, size := range []int{512, 4 << 10, 64 << 10} {
		data := noise(64*4096, 1) // fits into a second-level cache
		if size > 4<<10 {
			data = noise(32*size, 1)
		}
		dst := make([][Size]byte, len(data)/size)
		for _, name := range names {
			b.Run(fmt.Sprintf("%s/%dB", name, size), func(b *testing.B) {
				perCPU(b, len(data), func() { digest(name, dst, data, size) })
			})
		}
	}
}

// BenchmarkReadAndSum reads a file that is in memory, an extent at a time, as a scan does.
func BenchmarkReadAndSum(b *testing.B) {
	const extent, extents, size = 1 << 20, 64, 4 << 10
	path := filepath.Join(b.TempDir(), "image")
	if err := os.WriteFile(path, noise(extents*extent, 1), 0o600); err != nil {
		b.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	data, dst := make([]byte, extent), make([][Size]byte, extent/size)
	names, digest := implementations(b)
	for _, name := range names {
		b.Run(name, func(b *testing.B) {
			perCPU(b, extents*extent, func() {
				for i := range int64(extents) {
					if _, err := file.ReadAt(data, i*extent); err != nil {
						b.Fatal(err)
					}
					digest(name, dst, data, size)
				}
			})
		})
	}
}
