package device

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Witnesses reports whether this system tells who has written to a target.
const Witnesses = true

// Counters are read until they stand still: a request that has woken its program is
// counted a moment later.
const (
	countersStill = 50 * time.Millisecond
	countersLimit = 3 * time.Second
)

// Facts make everything durable that anybody has written to the target, by whatever name
// of its disk, and tell what would be another thing afterwards if it was written to once
// more. An error says why that cannot be told. unseen, for people, are writes that no
// fact shows.
//
// Each is in it for a way to write that the others do not show. What lies in a page cache
// moves no counter, so all caches are synced first. Another boot, disk or place of a
// partition, another table of the device mapper, make another device of the same name.
func (o *Object) Facts() (*Account, error) {
	switch {
	case o.follower || !o.write:
		return nil, cannotWitness(o.path, "is not open as the target of a transfer")
	case o.forced:
		return nil, cannotWitness(o.path, "is written by force, so others may write to it meanwhile")
	}
	// Also when nothing was written here: others share the cache.
	if err := fail("sync", o.path, errors.Join(dataSync(o.f), o.Sync())); err != nil {
		return nil, err
	}
	a := &Account{Facts: []Fact{{"boot", text(host.proc, "sys/kernel/random/boot_id")}, {"seconds asleep", asleep()}}}
	if a.Facts[0].Value == "" {
		return nil, cannotWitness(o.path, "the boot is not known: %s is not mounted", host.proc)
	}
	if n, ok := deviceNumber(o.info.ID); ok {
		return a, host.facts(a, n)
	}
	if uses := host.uses(o.info.ID); len(uses) > 0 {
		return nil, cannotWitness(o.path, "%s", uses[0])
	}
	facts, stamp, err := fileFacts(o.f, o.path)
	a.Facts, a.Stamp, a.Stamped = append(a.Facts, facts...), stamp, o.path
	return a, err
}

// asleep is how long the host was suspended since its boot: disks are known to be taken
// out then.
func asleep() string {
	var boot, awake unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil {
		return "unknown"
	}
	return strconv.FormatInt((boot.Nano()-awake.Nano())/int64(time.Second), 10)
}

// facts adds those of a device.
func (k kernel) facts(a *Account, n number) error {
	var before []Fact
	for end := time.Now().Add(countersLimit); ; time.Sleep(countersStill) {
		l := &layers{kernel: k, seen: map[string]bool{}}
		dir, err := k.dir(n)
		if err == nil {
			err = l.target(dir)
		}
		if err != nil {
			return err
		}
		// The first time may have synced what the counters then show.
		if before != nil && slices.Equal(before, l.facts) && l.writing == "" {
			a.Facts, a.Unseen = append(a.Facts, l.facts...), strings.Join(l.unseen, "; ")
			a.Stamp, a.Stamped = l.stamp.UnixNano(), l.stamped
			return nil
		}
		if time.Now().After(end) {
			return cannotWitness("/dev/"+filepath.Base(dir), "somebody writes to it all the time%s", l.writing)
		}
		before = l.facts
	}
}

// layers collects the facts of a device and of all that it consists of.
type layers struct {
	kernel
	seen    map[string]bool // sysfs directories
	facts   []Fact
	unseen  []string
	writing string // who is in the middle of a write

	stamp   time.Time // of the node that was written to last
	stamped string    // that one
}

// target is add for the device that is written itself: nothing may be built on it.
func (l *layers) target(dir string) error {
	if h := holders(dir); len(h) > 0 {
		return cannotWitness("/dev/"+filepath.Base(dir), "%s is built on it", filepath.Base(h[0]))
	}
	return l.add(dir)
}

// add takes in the device with this sysfs directory, and what is below it. Of a
// partition that is its whole disk, since who writes to that can write to all of it.
func (l *layers) add(dir string) error {
	if l.seen[dir] {
		return nil
	}
	l.seen[dir] = true
	name := filepath.Base(dir)
	if err := l.syncAll(dir); err != nil {
		return err
	}
	if isPartition(dir) {
		l.fact("the place of "+name, text(dir, "start")+"+"+text(dir, "size"))
		if err := l.counters(name, dir); err != nil {
			return err
		}
		return l.add(filepath.Dir(dir))
	}
	seq := text(dir, "diskseq")
	switch {
	case !known(name):
		return cannotWitness("/dev/"+name, "it is not known whether this kind of device shows all that is written to it")
	case seq == "":
		return cannotWitness("/dev/"+name, "this kernel does not number the disks it has seen (diskseq)")
	case text(dir, "queue/zoned") != "none" && text(dir, "queue/zoned") != "":
		return cannotWitness("/dev/"+name, "it has zones, whose resets are not counted")
	case !stacked(dir) && text(dir, "queue/iostats") != "1":
		return cannotWitness("/dev/"+name, "the kernel does not count what is written to it: echo 1 >/sys/block/%s/queue/iostats", name)
	}
	l.fact("the disk "+name, fmt.Sprintf("number %s of %s sectors", seq, text(dir, "size")))
	if err := l.counters(name, dir); err != nil {
		return err
	}
	return l.below(name, dir)
}

// disks are the drivers of whole disks that are known to count each write and discard.
// Others count nothing, or no discards, or are written by other hosts.
var disks = []string{"sd", "nvme", "vd", "xvd", "mmcblk"}

// stacks are the drivers of devices that consist of others, which are looked at too.
var stacks = []string{"dm-", "loop"}

// stacked tells whether the device with this sysfs directory consists of others, whose
// counters show all that is written to it. Its own may be off.
func stacked(dir string) bool {
	slaves, _ := filepath.Glob(filepath.Join(dir, "slaves", "*"))
	return len(slaves) > 0
}

// known tells whether a whole disk with this name is of one of these drivers.
func known(name string) bool {
	return slices.ContainsFunc(slices.Concat(disks, stacks), func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// below adds what a whole disk consists of.
func (l *layers) below(name, dir string) error {
	slaves, _ := filepath.Glob(filepath.Join(dir, "slaves", "*"))
	switch {
	case strings.HasPrefix(name, "loop"):
		return l.loop(name, dir)
	case len(slaves) > 0:
		return l.consists(name, dir, slaves)
	case strings.HasPrefix(name, "dm-"):
		return cannotWitness("/dev/"+name, "it does not consist of anything that could be watched")
	}
	if how := reached(name, dir); how != "" {
		return cannotWitness("/dev/"+name, "other hosts may write to it, since it is reached by %s", how)
	}
	if strings.HasPrefix(name, "sd") || strings.HasPrefix(name, "nvme") {
		l.unseen = append(l.unseen, "/dev/"+name+": commands that programs send past the block layer, by SG_IO and the like, are not seen")
	}
	return nil
}

// consists adds what a device consists of that is built on others.
func (l *layers) consists(name, dir string, slaves []string) error {
	if err := l.table(name, dir); err != nil {
		return err
	}
	for _, s := range slaves {
		real, err := filepath.EvalSymlinks(s)
		if err != nil {
			return cannotWitness("/dev/"+name, "what is below it cannot be told: %v", err)
		}
		if err := l.add(real); err != nil {
			return err
		}
	}
	return nil
}

// table has the map of a device of the device mapper taken for a part of its content.
func (l *layers) table(name, dir string) error {
	if !strings.HasPrefix(name, "dm-") {
		return nil
	}
	n, _ := parseNumber(text(dir, "dev"))
	targets, err := l.dmTable(n)
	if err != nil {
		return cannotWitness("/dev/"+name, "its table cannot be read: %v", err)
	}
	sum := sha256.Sum256([]byte(fmt.Sprint(targets))) // keys of disks may be in it
	l.fact("the table of "+name, hex.EncodeToString(sum[:]))
	return nil
}

// networks are parts of sysfs directories of disks that are reached through one.
var networks = map[string]string{"session": "iSCSI", "rport-": "Fibre Channel"}

// reached is the network through which a disk is reached, empty for none.
func reached(name, dir string) string {
	if strings.HasPrefix(name, "nvme") {
		direct, _ := filepath.Glob(filepath.Join(dir, "device/transport"))
		paths, _ := filepath.Glob(filepath.Join(dir, "device/nvme*/transport")) // of one with several
		for _, file := range append(direct, paths...) {
			if t := text(file); t != "pcie" {
				return "NVMe over " + t
			}
		}
		if len(direct)+len(paths) == 0 {
			return "a way that the kernel does not tell"
		}
	}
	for part := range strings.SplitSeq(dir, "/") {
		for prefix, how := range networks {
			if rest, ok := strings.CutPrefix(part, prefix); ok && strings.Trim(rest, "0123456789:-") == "" {
				return how
			}
		}
	}
	return ""
}

// counters adds what the kernel counts of a device, in sectors: each sync of anybody counts
// as a write of none. Where no reads are counted either, though the device was read,
// nothing is.
func (l *layers) counters(name, dir string) error {
	f := strings.Fields(text(dir, "stat"))
	if len(f) < 11 {
		return cannotWitness("/dev/"+name, "the kernel does not count what is written to it")
	}
	if !isPartition(dir) && !stacked(dir) && f[0] == "0" {
		return cannotWitness("/dev/"+name, "the kernel does not count what is read from it, and so maybe not what is written")
	}
	discarded := "no"
	if len(f) >= 15 {
		discarded = f[13]
	}
	l.fact("what was written to "+name, fmt.Sprintf("%s sectors, and %s discarded", f[6], discarded))
	if now := strings.Fields(text(dir, "inflight")); len(now) == 2 && now[1] != "0" {
		l.writing = ", as to " + name
	}
	return nil
}

func (l *layers) fact(what, value string) { l.facts = append(l.facts, Fact{what, value}) }

// syncAll makes durable what the caches of a device hold, of its partitions, and of all
// that is built on them.
func (l *layers) syncAll(dir string) error {
	for _, d := range append([]string{dir}, partitions(dir)...) {
		if err := l.sync(d, 0); err != nil {
			return err
		}
	}
	return nil
}

// mostAbove is how many devices may be stacked on one.
const mostAbove = 16

func (l *layers) sync(dir string, depth int) error {
	name := filepath.Base(dir)
	f := openNode(dir)
	if f == nil {
		return cannotWitness("/dev/"+name, "cannot be opened, so what is in its cache cannot be made durable")
	}
	fi, err := f.Stat() // before what is written from now on, which will be counted
	if err = errors.Join(err, dataSync(f), f.Close()); err != nil {
		return fail("sync", "/dev/"+name, err)
	}
	if t := fi.ModTime(); t.After(l.stamp) {
		l.stamp, l.stamped = t, f.Name()
	}
	for _, h := range holders(dir) {
		if depth == mostAbove {
			break
		}
		if err := l.sync(h, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// loop adds what is behind a loop device: who writes to that writes to the device.
func (l *layers) loop(name, dir string) error {
	node := openNode(dir)
	if node == nil {
		return cannotWitness("/dev/"+name, "cannot be opened")
	}
	defer node.Close()
	var info *unix.LoopInfo64
	err := withFD(node, func(fd uintptr) (err error) {
		info, err = unix.IoctlLoopGetStatus64(int(fd))
		return err
	})
	path := text(dir, "loop/backing_file")
	if err != nil || path == "" {
		return cannotWitness("/dev/"+name, "what is behind it cannot be told: %v", err)
	}
	l.fact("the part behind "+name, fmt.Sprintf("%d+%d", info.Offset, info.Sizelimit))
	if n, ok := blockNumber(path); ok {
		under, err := l.dir(n)
		if err != nil {
			return cannotWitness("/dev/"+name, "%s, which is behind it, cannot be told: %v", path, err)
		}
		return l.add(under)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return cannotWitness("/dev/"+name, "what is behind it cannot be opened: %v", err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := withFD(f, func(fd uintptr) error { return unix.Fstat(int(fd), &st) }); err != nil || st.Ino != info.Inode || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return cannotWitness("/dev/"+name, "%s is not the file behind it any more", path)
	}
	facts, _, err := fileFacts(f, path) // which is stamped when what we wrote is synced
	l.facts = append(l.facts, facts...)
	return err
}
