package device

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// number is the major:minor number of a device.
type number struct{ major, minor uint32 }

func numberOf(dev uint64) number { return number{unix.Major(dev), unix.Minor(dev)} }

func (n number) String() string { return fmt.Sprintf("%d:%d", n.major, n.minor) }

// parseNumber reads "8:0", as sysfs and mountinfo write it.
func parseNumber(s string) (n number, ok bool) {
	major, minor, _ := strings.Cut(strings.TrimSpace(s), ":")
	a, err1 := strconv.ParseUint(major, 10, 32)
	b, err2 := strconv.ParseUint(minor, 10, 32)
	return number{uint32(a), uint32(b)}, err1 == nil && err2 == nil
}

// deviceNumber is the number in the [Info.ID] of a device; what is not one has none.
func deviceNumber(id string) (n number, ok bool) {
	if s, found := strings.CutPrefix(id, "b:"); found {
		return parseNumber(s)
	}
	return n, false
}

// kernel is what the kernel tells about its devices without opening them.
type kernel struct{ sys, proc, run, mapper string }

var host = kernel{sys: "/sys", proc: "/proc", run: "/run", mapper: "/dev/mapper/control"}

// dir is the sysfs directory of a device: for a partition it lies in the one of
// its disk.
func (k kernel) dir(n number) (string, error) {
	return filepath.EvalSymlinks(filepath.Join(k.sys, "dev/block", n.String()))
}

// text reads an attribute; a missing one is empty.
func text(elem ...string) string {
	b, _ := os.ReadFile(filepath.Join(elem...))
	return strings.TrimSpace(string(b))
}

func integer(elem ...string) int64 {
	n, _ := strconv.ParseInt(text(elem...), 10, 64)
	return n
}

// describe is [Stat] for a block device.
func (k kernel) describe(path string, n number) (Info, error) {
	dir, err := k.dir(n)
	if err != nil {
		if _, serr := os.Stat(filepath.Join(k.sys, "dev/block")); serr != nil {
			return Info{}, refuse(ErrUnsupported, "stat", path, "its size is unknown: %s is not mounted", k.sys)
		}
		return Info{}, refuse(ErrNotFound, "stat", path, "there is no device %s behind this name", n)
	}
	queue := filepath.Join(dir, "queue")
	if isPartition(dir) {
		queue = filepath.Join(dir, "../queue")
	}
	return Info{
		Kind:       Block,
		Size:       integer(dir, "size") * 512,
		ReadOnly:   integer(dir, "ro") != 0,
		Allocated:  -1,
		BlockSize:  int(max(512, integer(queue, "logical_block_size"))),
		Rotational: integer(queue, "rotational") != 0,
		ID:         "b:" + n.String(),
	}, nil
}

func isPartition(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "partition"))
	return err == nil
}

// partitions are the sysfs directories of the partitions of a disk.
func partitions(dir string) []string {
	found, _ := filepath.Glob(filepath.Join(dir, "*", "partition"))
	for i, p := range found {
		found[i] = filepath.Dir(p)
	}
	return found
}

// holders are the sysfs directories of devices built on this one: device
// mapper, md, bcache.
func holders(dir string) []string {
	found, _ := filepath.Glob(filepath.Join(dir, "holders", "*"))
	var out []string
	for _, h := range found {
		if real, err := filepath.EvalSymlinks(h); err == nil {
			out = append(out, real)
		}
	}
	return out
}

// mount is one line of mountinfo.
type mount struct {
	number number // of the file system; btrfs and network ones have none of a device
	point  string
	fstype string
	source string
	rw     bool // the file system, not just this mount of it, may be written
}

func (k kernel) mounts() []mount {
	var out []mount
	for line := range lines(filepath.Join(k.proc, "self/mountinfo")) {
		if m, ok := parseMount(line); ok {
			out = append(out, m)
		}
	}
	return out
}

// parseMount reads "36 35 98:0 /root /mnt rw,noatime shared:1 - ext4 /dev/sda rw".
func parseMount(line string) (m mount, ok bool) {
	before, after, found := strings.Cut(line, " - ")
	left, right := strings.Fields(before), strings.Fields(after)
	if !found || len(left) < 6 || len(right) < 3 {
		return m, false
	}
	m.number, ok = parseNumber(left[2])
	m.point, m.fstype, m.source = unescape(left[4]), right[0], unescape(right[1])
	m.rw = slices.Contains(strings.Split(right[2], ","), "rw")
	return m, ok
}

// swaps are the paths in use as swap.
func (k kernel) swaps() []string {
	var out []string
	for line := range lines(filepath.Join(k.proc, "swaps")) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[0], "/") {
			out = append(out, unescape(f[0]))
		}
	}
	return out
}

// lines yields the lines of a file of the kernel; none when it is not there.
func lines(path string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		f, err := os.Open(path)
		if err != nil {
			return
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if !yield(s.Text()) {
				return
			}
		}
	}
}

// unescape undoes the \040 that stand for blanks in tables of the kernel.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// blockNumber is the number of the device at path, if it is one.
func blockNumber(path string) (number, bool) {
	fi, err := os.Stat(path)
	if err != nil || fi.Mode()&(fs.ModeDevice|fs.ModeCharDevice) != fs.ModeDevice {
		return number{}, false
	}
	return numberOf(uint64(fi.Sys().(*syscall.Stat_t).Rdev)), true
}

// idOf is the [Info.ID] of what path leads to, empty when it leads nowhere.
func idOf(path string) string {
	if n, ok := blockNumber(path); ok {
		return "b:" + n.String()
	}
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err != nil {
		return ""
	}
	return fileID(fi)
}
