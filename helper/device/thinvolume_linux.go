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
}

// thinVolume finds out whether a device is a thin volume. That takes the right to ask the device mapper.
func (k kernel) thinVolume(n number) (v volume, ok bool) {
	dir, err := k.dir(n)
	if err != nil {
		return v, false
	}
	table, _ := k.thinTable(dir)
	words, ok := only(table, nil)("thin", 2)
	if !ok {
		return v, false
	}
	pool, parent, ok := k.thinPool(words)
	if !ok {
		return v, false
	}
	v = volume{self: n, pool: pool, origin: len(words) > 2, granularity: integer(dir, "queue/discard_granularity")}
	var sectors int64
	var errs [2]error
	v.id, errs[0] = strconv.ParseUint(words[1], 10, 32)
	sectors, errs[1] = strconv.ParseInt(parent[2], 10, 32)
	v.meta, ok = parseNumber(parent[0])
	v.chunk = sectors * 512
	return v, ok && errs[0] == nil && errs[1] == nil && v.chunk > 0
}

// thinTable tells whether the device with this sysfs directory is a thin volume, and gives its table. Where the device
// mapper does not answer, since it answers root alone, there is no table, and LVM's names tell.
func (k kernel) thinTable(dir string) (table []dmTarget, thin bool) {
	n, ok := parseNumber(text(dir, "dev"))
	if !ok || text(dir, "dm/name") == "" {
		return nil, false
	}
	if table, err := k.dmTable(n); err == nil {
		return table, slices.ContainsFunc(table, func(t dmTarget) bool { return t.kind == "thin" })
	}
	pools, _ := filepath.Glob(filepath.Join(dir, "slaves/*/dm/uuid"))
	return nil, slices.ContainsFunc(pools, func(pool string) bool { return strings.HasSuffix(text(pool), "-tpool") })
}

// thinPool is the pool that a thin volume's table names, and the words of the pool's own table.
func (k kernel) thinPool(words []string) (pool number, parent []string, ok bool) {
	if pool, ok = parseNumber(words[0]); !ok {
		return pool, nil, false
	}
	parent, ok = only(k.dmTable(pool))("thin-pool", 4)
	return pool, parent, ok
}

// refuseStale refuses a target, with this sysfs directory, that is or is made of a volume of a thin pool that gives out
// chunks with old data of others in them: a write of one block would change the rest of its chunk, which the transfer has
// read and found equal. Where only root can find out, others are refused.
func (k kernel) refuseStale(path, dir string) error {
	if isPartition(dir) {
		dir = filepath.Dir(dir)
	}
	table, thin := k.thinTable(dir)
	known := !thin || len(table) > 0
	for _, t := range table {
		if t.kind != "thin" {
			continue
		}
		_, parent, ok := k.thinPool(t.words)
		if slices.Contains(parent, "skip_block_zeroing") {
			return refuse(ErrRefused, "open", path, "its thin pool does not zero the space it gives out, so what is not written would not read as zeros: switch that on, with lvchange --zero y for the pool")
		}
		known = known && ok
	}
	if !known {
		return refuse(ErrPermission, "open", path, "is on a thin pool, which must zero the space it gives out, and only root can find out whether it does: become root, with sudo")
	}
	below, _ := filepath.Glob(filepath.Join(dir, "slaves/*"))
	for _, link := range below {
		if real, err := filepath.EvalSymlinks(link); err == nil {
			if err := k.refuseStale(path, real); err != nil {
				return err
			}
		}
	}
	return nil
}

// only gives the words of a device's one target, when it is of that kind and has at least so many.
func only(table []dmTarget, err error) func(kind string, least int) ([]string, bool) {
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
