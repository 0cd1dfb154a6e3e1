//go:build unix

package sha256x

import (
	"os"
	"runtime/debug"
	"testing"

	"golang.org/x/sys/unix"
)

// A kernel must not read behind the last block, not even ahead: there may be no memory.
func TestSum_NoMemoryBehind(t *testing.T) {
	page := os.Getpagesize()
	whole := (many*4096 + page - 1) / page * page
	memory, err := unix.Mmap(-1, 0, whole+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	if err := unix.Mprotect(memory[whole:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	copy(memory[:whole], noise(whole, 12))
	for name, plan := range plans(t) {
		t.Run(name, func(t *testing.T) {
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			defer func() {
				if fault := recover(); fault != nil {
					t.Error(fault)
				}
			}()
			for _, size := range []int{64, 100, 512, 4096} {
				for _, n := range []int{many - 1, many} {
					check(t, plan, memory[whole-n*size:whole], size, sequence(n))
				}
			}
		})
	}
}
