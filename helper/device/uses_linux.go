package device

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// use is one thing that keeps a device or file busy.
type use struct {
	who    string // "it", "its partition sdb1", "its disk sdb"
	what   string // "is mounted at /mnt"
	remedy string // what ends it, as an imperative
	torn   bool   // it may change while it is read
}

func (u use) String() string { return u.who + " " + u.what }

// uses are all uses of the object with this ID that the kernel knows of: its
// own, and for a device those of its partitions and of the disk it is part of.
func (k kernel) uses(id string) []use {
	found := k.own("it", id, "")
	n, ok := deviceNumber(id)
	dir, err := k.dir(n)
	if !ok || err != nil {
		return found
	}
	found = append(found, k.heldBy("it", dir)...)
	for _, p := range partitions(dir) {
		who := "its partition " + filepath.Base(p)
		found = append(found, k.own(who, "b:"+text(p, "dev"), filepath.Base(p))...)
		found = append(found, k.heldBy(who, p)...)
	}
	if isPartition(dir) {
		disk := filepath.Dir(dir)
		who := "its disk " + filepath.Base(disk)
		found = append(found, k.own(who, "b:"+text(disk, "dev"), filepath.Base(disk))...)
		found = append(found, k.heldBy(who, disk)...)
	}
	return found
}

// own are the mounts, swaps and loop devices right on top of an object.
func (k kernel) own(who, id, name string) []use {
	var found []use
	if m := k.mountsOf(id); len(m) > 0 { // the other mounts of it add nothing
		found = append(found, use{who, "is mounted at " + m[0].point, "umount " + m[0].point, m[0].rw})
	}
	for _, path := range k.swaps() {
		if idOf(path) == id {
			found = append(found, use{who, "is used as swap", "swapoff " + path, true})
		}
	}
	found = append(found, k.btrfs(who, name, id)...)
	return append(found, k.loops(who, id)...)
}

// btrfs finds members of mounted file systems of several devices; mountinfo
// names only one of them.
func (k kernel) btrfs(who, name, id string) []use {
	if name == "" {
		n, ok := deviceNumber(id)
		dir, err := k.dir(n)
		if !ok || err != nil {
			return nil
		}
		name = filepath.Base(dir)
	}
	found, _ := filepath.Glob(filepath.Join(k.sys, "fs/btrfs/*/devices", name))
	if len(found) == 0 {
		return nil
	}
	uuid := filepath.Base(filepath.Dir(filepath.Dir(found[0])))
	return []use{{who, "belongs to the mounted btrfs file system " + uuid, "unmount that file system", true}}
}

// loops are the loop devices attached to an object. The kernel lets anybody
// write underneath them.
func (k kernel) loops(who, id string) []use {
	var found []use
	files, _ := filepath.Glob(filepath.Join(k.sys, "block/loop*/loop/backing_file"))
	for _, file := range files {
		if idOf(text(file)) != id || id == "" {
			continue
		}
		dir := filepath.Dir(filepath.Dir(file))
		loop := "/dev/" + filepath.Base(dir)
		u := use{who, "is attached to " + loop, "losetup -d " + loop, integer(dir, "ro") == 0}
		if at, _ := k.above(dir, filepath.Base(dir)); at != "" {
			u.what += ", " + at
		}
		found = append(found, u)
	}
	return found
}

// heldBy are the devices built on the one with this sysfs directory.
func (k kernel) heldBy(who, dir string) []use {
	var found []use
	for _, h := range holders(dir) {
		name := filepath.Base(h)
		if dm := text(h, "dm/name"); dm != "" {
			name += " (" + dm + ")"
		}
		u := use{who: who, what: "is held by " + name, remedy: "stop " + name}
		var at string
		if at, u.torn = k.above(h, filepath.Base(h)); at != "" {
			u.what += ", " + at
		}
		found = append(found, u)
	}
	return found
}

// above describes the first use of the device with this sysfs directory, itself
// built on the one in question, and whether any of its uses may write.
func (k kernel) above(dir, name string) (first string, torn bool) {
	uses := k.own("", "b:"+text(dir, "dev"), name)
	uses = append(uses, k.heldBy("", dir)...)
	for _, p := range partitions(dir) {
		uses = append(uses, k.own("", "b:"+text(p, "dev"), filepath.Base(p))...)
	}
	if len(uses) == 0 {
		return "", false
	}
	return "which " + strings.TrimSpace(uses[0].String()), slices.ContainsFunc(uses, func(u use) bool { return u.torn })
}

// busy is the refusal that names the first user of path.
func busy(path string, uses []use) error {
	u := uses[0]
	return refuse(ErrBusy, "open", path, "in use: %s; end that first (%s) or force the write", u, u.remedy)
}

// forced are the notices in place of that refusal.
func forced(path string, uses []use) []string {
	var out []string
	for _, u := range uses {
		out = append(out, fmt.Sprintf("%s: written by force although %s", path, u))
	}
	return out
}

// readNotices tells who may change the object while it is read.
func readNotices(f *os.File, info Info) []string {
	var out []string
	for _, u := range host.uses(info.ID) {
		if u.torn {
			what := strings.Replace(u.what, "mounted at", "mounted read-write at", 1)
			out = append(out, fmt.Sprintf("%s: %s %s: the image may be torn; copy a snapshot, or freeze it", f.Name(), u.who, what))
		}
	}
	if who := writerOf(f); who != "" {
		out = append(out, fmt.Sprintf("%s: %s is writing to it: the image may be torn", f.Name(), who))
	}
	return out
}
