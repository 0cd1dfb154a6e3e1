package device

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// volume is a volume of a thin pool.
type volume struct {
	self, pool, meta number // device numbers; meta has the pool's metadata
	id               uint64 // of the volume in its pool
	chunk            int64  // bytes of the pool's unit
	granularity      int64  // bytes that are freed at once, 0 where nothing is
	origin           bool   // another device shows through where it has no space
	stale            bool   // new chunks hold old data of other volumes
}

// thinVolume finds out whether the device with this ID is a thin volume. That takes the right to ask the device mapper.
func thinVolume(id string) (v volume, ok bool) {
	if v.self, ok = parseNumber(strings.TrimPrefix(id, "b:")); !ok {
		return v, false
	}
	dir, err := host.dir(v.self)
	if err != nil {
		return v, false
	}
	if _, err := os.Stat(filepath.Join(dir, "dm")); err != nil {
		return v, false
	}
	words, ok := only(host.dmTable(v.self))("thin", 2)
	if !ok {
		return v, false
	}
	if v.pool, ok = parseNumber(words[0]); !ok {
		return v, false
	}
	parent, ok := only(host.dmTable(v.pool))("thin-pool", 4)
	if !ok {
		return v, false
	}
	var sectors int64
	var errs [2]error
	v.id, errs[0] = strconv.ParseUint(words[1], 10, 32)
	sectors, errs[1] = strconv.ParseInt(parent[2], 10, 32)
	v.meta, ok = parseNumber(parent[0])
	v.chunk = sectors * 512
	v.origin = len(words) > 2
	v.stale = slices.Contains(parent, "skip_block_zeroing")
	v.granularity = integer(dir, "queue/discard_granularity")
	return v, ok && errs[0] == nil && errs[1] == nil && v.chunk > 0
}

// only gives the words of a device's one target, when it is of that kind and has at least so many.
func only(table []target, err error) func(kind string, least int) ([]string, bool) {
	return func(kind string, least int) ([]string, bool) {
		if err != nil || len(table) != 1 || table[0].kind != kind || len(table[0].words) < least {
			return nil, false
		}
		return table[0].words, true
	}
}

// mapped is the number of bytes for which a volume has space.
func (v volume) mapped() (int64, bool) {
	words, ok := only(host.dmStatus(v.self))("thin", 2) // "Fail" is one word
	if !ok {
		return 0, false
	}
	sectors, err := strconv.ParseInt(words[0], 10, 64)
	return sectors * 512, err == nil
}

// poolState is what a pool says of itself.
type poolState struct {
	held    string // root of the reserved snapshot of its metadata, "-" for none
	healthy bool   // it may be changed
}

func (v volume) state() (s poolState, ok bool) {
	// TRANSACTION METADATA DATA HELD-ROOT MODE ...; "Fail" or "Error" alone.
	words, ok := only(host.dmStatus(v.pool))("thin-pool", 5)
	if !ok {
		return s, false
	}
	return poolState{words[3], words[4] == "rw" && !slices.Contains(words, "needs_check")}, true
}

// writes counts what has changed a device.
type writes struct{ written, sectors, discarded, discardedSectors, counting int64 }

// counters are how often a device was read, and what has changed it; not ok where the kernel does not say.
func (k kernel) counters(n number) (reads int64, w writes, ok bool) {
	dir := filepath.Join(k.sys, "dev/block", n.String())
	f := strings.Fields(text(dir, "stat"))
	if len(f) < 15 {
		return 0, w, false
	}
	w.counting = integer(dir, "queue/iostats") // may be 0: some kernels count such devices all the same
	for i, to := range map[int]*int64{0: &reads, 4: &w.written, 6: &w.sectors, 11: &w.discarded, 13: &w.discardedSectors} {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0, w, false
		}
		*to = n
	}
	return reads, w, true
}

// counting tells whether the kernel counts what happens to a device: it must, when we read it past the page cache.
func (k kernel) counting(n number) bool {
	path, err := k.node(n)
	if err != nil {
		return false
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	const sector = 4096                                                                                  // the largest there is
	buf, err := unix.Mmap(-1, 0, sector, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		return false
	}
	defer unix.Munmap(buf)
	before, _, ok1 := k.counters(n)
	_, err = f.ReadAt(buf, 0)
	after, _, ok2 := k.counters(n)
	return ok1 && ok2 && err == nil && after > before
}
