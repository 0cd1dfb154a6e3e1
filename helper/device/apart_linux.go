package device

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Apart refuses a directory on a file system that shares blocks with o: it is on o, on a
// device that is built on it, or on one that o is a part of. Writing to o would destroy
// what is kept there.
func (o *Object) Apart(dir string) error {
	if by := host.shares(o.info.ID, dir); by != "" {
		return refuse(ErrRefused, "keep in", dir, "is on %s, which shares its blocks with the target %s: what is kept there would be overwritten, so name a directory on another disk", by, o.path)
	}
	return nil
}

// shares names the device with the file system of dir, when that shares blocks with the
// object with this ID; else it is empty.
func (k kernel) shares(id, dir string) string {
	for _, dev := range k.devicesOf(dir) {
		whole := k.below(dev, true)
		if slices.Contains(whole, id) || slices.Contains(k.below(id, false), dev) {
			return k.nameOf(dev)
		}
	}
	return ""
}

// nameOf is the name of a device for people.
func (k kernel) nameOf(id string) string {
	n, _ := deviceNumber(id)
	dir, err := k.dir(n)
	if err != nil {
		return n.String()
	}
	return "/dev/" + filepath.Base(dir)
}

// devicesOf are the IDs of the devices with the file system of a path. Btrfs has
// numbers of its own, and may have several.
func (k kernel) devicesOf(path string) (ids []string) {
	real, err := filepath.EvalSymlinks(path)
	fi, serr := os.Stat(path)
	if errors.Join(err, serr) != nil {
		return nil
	}
	n := numberOf(uint64(fi.Sys().(*syscall.Stat_t).Dev))
	if _, err := k.dir(n); err == nil {
		return []string{"b:" + n.String()}
	}
	at := mount{}
	for _, m := range k.mounts() {
		if within(real, m.point) && len(m.point) >= len(at.point) { // the last one hides those before
			at = m
		}
	}
	first, ok := blockNumber(at.source)
	if !ok {
		return nil
	}
	ids = []string{"b:" + first.String()}
	dir, err := k.dir(first)
	if err != nil {
		return ids
	}
	members, _ := filepath.Glob(filepath.Join(k.sys, "fs/btrfs/*/devices", filepath.Base(dir)))
	for _, member := range members {
		others, _ := filepath.Glob(filepath.Join(filepath.Dir(member), "*"))
		for _, other := range others {
			ids = append(ids, "b:"+text(other, "dev"))
		}
	}
	return ids
}

// below are an object and all whose blocks it consists of: for a partition its disk, for
// a mapping what is mapped. With files also the files of loop devices, and what they
// lie on.
func (k kernel) below(id string, files bool) (all []string) {
	next := []string{id}
	for len(next) > 0 {
		id, next = next[0], next[1:]
		if slices.Contains(all, id) {
			continue
		}
		all = append(all, id)
		n, ok := deviceNumber(id)
		dir, err := k.dir(n)
		if !ok || err != nil {
			continue
		}
		if isPartition(dir) {
			next = append(next, "b:"+text(dir, "../dev"))
		}
		slaves, _ := filepath.Glob(filepath.Join(dir, "slaves/*"))
		for _, slave := range slaves {
			next = append(next, "b:"+text(slave, "dev"))
		}
		if file := text(dir, "loop/backing_file"); files && strings.HasPrefix(file, "/") && idOf(file) != "" {
			next = append(next, idOf(file))
			next = append(next, k.devicesOf(file)...)
		}
	}
	return all
}
