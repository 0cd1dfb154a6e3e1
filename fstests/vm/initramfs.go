//go:build linux

package vm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// programs are the tools that are taken along where this machine has them. A test inside asks fstests/require for
// those it needs.
var programs = []string{
	"sh", "env", "mount", "umount", "losetup", "blockdev", "addpart", "delpart", "partx", "sfdisk", "sync", "cmp", "dd", "blkdiscard", "sha256sum", "mkswap", "swapon",
	"swapoff", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "e2fsck", "xfs_repair", "blkid", "dmsetup", "lvm", "mdadm", "fuser", "unshare", "thin_dump", "fstrim",
}

// Places inside the machine.
const (
	commandFile = "/command"       // a Command in JSON
	programFile = "/program"       // what it runs
	moduleDir   = "/modules"       // NAME.ko
	moduleList  = "/modules/order" // names of all of them, each after those it needs
)

// writeInitramfs makes the file system of the machine.
func writeInitramfs(path, init, modules string, c Command) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := bufio.NewWriterSize(f, 1<<20)
	w := &archive{w: buf, seen: map[string]bool{}}
	for _, dir := range []string{"dev", "proc", "sys", "tmp", "run", "etc", "root"} {
		w.dir(dir)
	}
	w.link("etc/mtab", "/proc/self/mounts")
	w.copy("init", init)
	w.copy(programFile, c.Path)
	if err := addLibraries(w, init, c.Path); err != nil {
		return err
	}
	for _, name := range or(c.Programs, programs) {
		if found, err := require.Program(name); err == nil {
			w.copy("bin/"+name, found)
			if err := addLibraries(w, found); err != nil {
				return err
			}
		}
	}
	if err := addModules(w, modules, or(c.Modules, loaded)); err != nil {
		return err
	}
	for name, data := range c.Files {
		w.file(name, 0o755, data)
	}
	for name, to := range c.Links {
		w.link(name, to)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	w.file(commandFile, 0o600, text)
	if err := w.end(); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// or is list, unless that is nil.
func or(list, usual []string) []string {
	if list == nil {
		return usual
	}
	return list
}

// addLibraries adds the shared libraries of programs. Those with a folder of their own go into /lib too, where the
// loader finds all.
func addLibraries(w *archive, programs ...string) error {
	for _, program := range programs {
		out, err := exec.Command("ldd", program).Output()
		if err != nil && len(out) > 0 || err != nil && !isStatic(program) {
			return fmt.Errorf("ldd %s: %w", program, err)
		}
		for line := range strings.Lines(string(out)) {
			fields := strings.Fields(line)
			switch {
			case slices.Contains(fields, "=>") && len(fields) > 2:
				w.copy("lib/"+fields[0], fields[2])
			case len(fields) > 0 && strings.HasPrefix(fields[0], "/"): // the loader, by the name that programs know
				w.copy(fields[0], fields[0])
			}
		}
	}
	return nil
}

// archive writes a cpio archive of the kind that the kernel unpacks ("newc"). Its first error is sticky.
type archive struct {
	w    *bufio.Writer
	seen map[string]bool
	at   int64
	err  error
}

// Types of files in a mode.
const (
	typeDir  = 0o040000
	typeFile = 0o100000
	typeLink = 0o120000
)

// entry adds one file with the folders above it, unless its name is there already.
func (a *archive) entry(name string, mode int, data []byte) {
	name = strings.TrimPrefix(filepath.Clean(name), "/")
	if a.seen[name] || name == "." || a.err != nil {
		return
	}
	a.entry(filepath.Dir(name), typeDir|0o755, nil)
	a.seen[name] = true
	a.header(name, mode, len(data))
	a.bytes(data)
	a.pad()
}

func (a *archive) header(name string, mode, size int) {
	a.bytes(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		len(a.seen)+1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name))
	a.pad()
}

func (a *archive) bytes(p []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(p)
		a.at += int64(len(p))
	}
}

// pad fills up to a multiple of four bytes.
func (a *archive) pad() { a.bytes(make([]byte, -a.at&3)) }

func (a *archive) dir(name string) { a.entry(name, typeDir|0o755, nil) }

func (a *archive) link(name, to string) { a.entry(name, typeLink|0o777, []byte(to)) }

func (a *archive) file(name string, perm int, data []byte) { a.entry(name, typeFile|perm, data) }

// copy adds what path leads to.
func (a *archive) copy(name, path string) {
	if a.err != nil || a.seen[strings.TrimPrefix(name, "/")] {
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		a.err = err
		return
	}
	a.file(name, 0o755, data)
}

func (a *archive) end() error {
	a.header("TRAILER!!!", 0, 0)
	return a.err
}
