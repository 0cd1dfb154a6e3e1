//go:build linux

package sha256x

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
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

// BenchmarkInTurn has every processor read its part of a file and hash it, a piece at a time, to as many buffers in turn
// as it says: what is copied to few stays in the caches, and what is copied to many goes to memory and comes back.
func BenchmarkInTurn(b *testing.B) {
	const part, size = 512 << 20, 4 << 10
	threads := runtime.GOMAXPROCS(0)
	path := filepath.Join(b.TempDir(), "image")
	file, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	for at := 0; at < threads*part; at += 64 << 20 {
		if _, err := file.Write(noise(64<<20, byte(at>>26))); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct{ buffers, piece int }{{1, 256 << 10}, {1, 1 << 20}, {16, 1 << 20}, {64, 1 << 20}} {
		b.Run(fmt.Sprintf("buffers=%d/%dKiB", c.buffers, c.piece>>10), func(b *testing.B) {
			buffers := make([][]byte, threads)
			for i := range buffers {
				buffers[i] = bytes.Repeat([]byte{1}, c.buffers*c.piece)
			}
			which := sequence(c.piece / size)
			b.SetBytes(int64(threads * part))
			for b.Loop() {
				var done sync.WaitGroup
				for i, all := range buffers {
					done.Go(func() {
						dst := make([][Size]byte, c.piece/size)
						for at := 0; at < part; at += c.piece {
							data := all[at%len(all):][:c.piece]
							if _, err := file.ReadAt(data, int64(i*part+at)); err != nil {
								b.Error(err)
								return
							}
							Sum(dst, data, size, which)
						}
					})
				}
				done.Wait()
			}
		})
	}
}
