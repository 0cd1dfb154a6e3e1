//go:build linux

package vm

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// loaded are the modules that every machine starts with.
var loaded = []string{
	"loop", "dm-mod", "dm-thin-pool", "dm-flakey", "dm-delay", "dm-snapshot", "dm-log-writes", "dm-crypt", "raid1", "btrfs", "xfs", "sd_mod",
	"crc32c_generic",
}

// carried are modules that a test loads itself, with the parameters it needs.
var carried = []string{"scsi_debug"}

// addModules adds the modules of the kernel in dir that are to be loaded, those that are carried, what they depend on,
// and the order of the loaded ones.
func addModules(w *archive, dir string, loaded []string) error {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if name, _, found := strings.Cut(filepath.Base(path), ".ko"); found {
			files[moduleName(name)] = path
		}
		return err
	})
	if err != nil {
		return err
	}
	var order []string
	for _, name := range loaded {
		if order, err = addModule(w, files, order, name); err != nil {
			return err
		}
	}
	w.file(moduleList, 0o644, []byte(strings.Join(order, "\n")))
	for _, name := range carried {
		if _, err := addModule(w, files, order, name); err != nil {
			return err
		}
	}
	return w.err
}

// addModule adds a module after those it depends on, and returns the order with all of them. A module without a file
// is taken as built into the kernel: loading what needs it shows whether that is so.
func addModule(w *archive, files map[string]string, order []string, name string) ([]string, error) {
	name = moduleName(name)
	path, there := files[name]
	if file := moduleDir + "/" + name + ".ko"; !there || w.seen[file[1:]] {
		return order, nil
	}
	data, err := readModule(path)
	if err != nil {
		return nil, err
	}
	needs, err := dependencies(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, need := range needs {
		if order, err = addModule(w, files, order, need); err != nil {
			return nil, err
		}
	}
	w.file(moduleDir+"/"+name+".ko", 0o644, data)
	return append(order, name), nil
}

// moduleName is the one of several spellings that the kernel uses.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// readModule reads a module, which newer packages compress.
func readModule(path string) ([]byte, error) {
	if strings.HasSuffix(path, ".xz") {
		return exec.Command("xz", "-dc", path).Output()
	}
	return os.ReadFile(path)
}

// dependencies are the modules that a module names as needed.
func dependencies(module []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("not a kernel module")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		if names, found := bytes.CutPrefix(entry, []byte("depends=")); found && len(names) > 0 {
			return strings.Split(string(names), ","), nil
		}
	}
	return nil, nil
}

// isStatic reports whether a program needs no shared libraries.
func isStatic(program string) bool {
	f, err := elf.Open(program)
	if err != nil {
		return false
	}
	defer f.Close()
	return f.Section(".interp") == nil
}
