package sha256x

import (
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// many blocks fill every kernel, and leave one.
const many = maxLanes + 1

// plans are the kernels that this processor has, each alone, none at all, and what Sum uses.
func plans(t testing.TB) map[string][]*kernel {
	all := map[string][]*kernel{generic: nil, "chosen": choose("")}
	for i := range kernels {
		if k := &kernels[i]; k.available {
			all[k.name] = []*kernel{k}
		} else {
			t.Logf("not tested, because this processor lacks it: %s", k.name)
		}
	}
	return all
}

// check compares a plan with crypto/sha256 for the blocks that which names.
func check(t *testing.T, plan []*kernel, data []byte, size int, which []uint16) {
	t.Helper()
	untouched := [Size]byte{0: 0xa5, 31: 0x5a}
	count := 0
	for _, i := range which {
		count = max(count, int(i)+1)
	}
	got, want := make([][Size]byte, count+1), make([][Size]byte, count+1)
	for i := range got {
		got[i], want[i] = untouched, untouched
	}
	for _, i := range which {
		want[i] = sha256.Sum256(data[int(i)*size : (int(i)+1)*size])
	}
	sum(plan, got, data, size, which)
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("block %d of %d bytes, one of %d: %x, not %x", i, size, len(which), got[i], want[i])
		}
	}
}

func sequence(n int) []uint16 {
	which := make([]uint16, n)
	for i := range which {
		which[i] = uint16(i)
	}
	return which
}

func noise(n int, seed byte) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

func TestSum_EveryLength(t *testing.T) {
	data := noise(many*(4*chunkSize+2), 1)
	for name, plan := range plans(t) {
		t.Run(name, func(t *testing.T) {
			for size := range 4*chunkSize + 2 {
				check(t, plan, data, size, sequence(many))
			}
		})
	}
}

func TestSum_EveryCount(t *testing.T) {
	data := noise(2*many*513, 2)
	for name, plan := range plans(t) {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{512, 513} {
				for n := range 2 * many {
					check(t, plan, data, size, sequence(n))
				}
			}
		})
	}
}

func TestSum_BlocksLongerThanOneCall(t *testing.T) {
	const limit = maxChunks * chunkSize
	data := noise(many*(2*limit+65), 3)
	for name, plan := range plans(t) {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{limit - 1, limit, limit + 1, limit + chunkSize, 2 * limit, 2*limit + 65} {
				check(t, plan, data, size, sequence(many))
			}
		})
	}
}

func TestSum_Random(t *testing.T) {
	data := noise(1<<20, 4)
	for name, plan := range plans(t) {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(5, 6))
			for range 100 {
				size := 1 + r.IntN(1<<r.IntN(16))
				from := data[r.IntN(chunkSize):]
				which := sequence(min(len(from)/size, 2*many))
				r.Shuffle(len(which), func(i, j int) { which[i], which[j] = which[j], which[i] })
				check(t, plan, from, size, which[:r.IntN(len(which)+1)])
			}
		})
	}
}

// The registers that a kernel adds up must not lose a carry or a bit.
func TestSum_ExtremeBytes(t *testing.T) {
	for name, plan := range plans(t) {
		for _, value := range []byte{0x00, 0x7f, 0x80, 0xff} {
			data := make([]byte, maxLanes*4096)
			for i := range data {
				data[i] = value
			}
			for i := range 8 { // and lanes that differ in one bit
				data[i*4096+517*i] ^= 1 << i
			}
			t.Run(name, func(t *testing.T) { check(t, plan, data, 4096, sequence(maxLanes)) })
		}
	}
}

func TestSum_StopsAtTheEndOfData(t *testing.T) {
	for name, plan := range plans(t) {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("read behind the last block")
				}
			}()
			sum(plan, make([][Size]byte, many), make([]byte, many*512-1), 512, sequence(many))
		})
	}
}

func TestSum_Allocations(t *testing.T) {
	dst, data, which := make([][Size]byte, many), noise(many*512, 7), sequence(many)
	for name, plan := range plans(t) {
		if n := testing.AllocsPerRun(10, func() { sum(plan, dst, data, 512, which) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestChoose(t *testing.T) {
	names := Kernels()
	for _, name := range names[:len(names)-1] {
		if plan := choose(name); len(plan) != 1 || plan[0].name != name {
			t.Errorf("%q chooses %d kernels", name, len(plan))
		}
	}
	for _, name := range []string{generic, "sha-ni-x3"} {
		if len(choose(name)) != 0 {
			t.Errorf("%q is not generic", name)
		}
	}
	if all := choose(""); len(all) != len(names)-1 || len(all) > 0 && all[0].name != names[0] {
		t.Errorf("chooses %d kernels of %v", len(all), names)
	}
	for i := range kernels {
		k := &kernels[i]
		had := k.available
		k.available = false
		if len(choose(k.name)) != 0 || slices.Contains(choose(""), k) {
			t.Errorf("chooses %s without what it needs", k.name)
		}
		k.available = had
	}
}

func TestFirst(t *testing.T) {
	if first(choose(""), 1) != nil {
		t.Error("one block occupies a kernel for several")
	}
	for i := range kernels {
		k := &kernels[i]
		if k.least < 2 || k.least > k.lanes || first([]*kernel{k}, k.least-1) != nil {
			t.Errorf("%s, of %d lanes, is used for less than %d blocks", k.name, k.lanes, k.least)
		}
		if plan := kernelsFrom(i); first(plan, k.least) != k || first(plan, 1000) != k {
			t.Errorf("%s is not used for %d blocks and more", k.name, k.least)
		}
	}
}

// kernelsFrom is the plan of a processor that lacks the first i kernels.
func kernelsFrom(i int) (plan []*kernel) {
	for ; i < len(kernels); i++ {
		plan = append(plan, &kernels[i])
	}
	return plan
}

func TestKernel(t *testing.T) {
	want := os.Getenv(Variable)
	if want == "" {
		want = Kernels()[0]
	}
	if Kernel() != want {
		t.Errorf("%s is used, not %s", Kernel(), want)
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte{}, uint16(1), uint8(0))
	f.Add(noise(700, 8), uint16(64), uint8(3))
	f.Add(noise(520, 9), uint16(55), uint8(1))
	f.Add(noise(520, 10), uint16(56), uint8(0))
	f.Add(noise(4096, 11), uint16(100), uint8(63))
	f.Fuzz(func(t *testing.T, data []byte, size uint16, skip uint8) {
		data = data[min(int(skip)%chunkSize, len(data)):]
		for _, plan := range plans(t) {
			check(t, plan, data, max(1, int(size)), sequence(min(len(data)/max(1, int(size)), 64)))
		}
	})
}
