package require

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

func probeVM() error {
	for _, p := range [][2]string{{"qemu-system-x86_64", "qemu-system-x86"}, {"dmsetup", "dmsetup"}, {"ldd", "libc-bin"}} {
		if err := program(p[0], p[1])(); err != nil {
			return err
		}
	}
	_, _, err := Kernel()
	return err
}

// Kernel finds Debian's cloud kernel and the folder of its modules: installed, or unpacked by fstests/vm/fetch-kernel.
func Kernel() (image, modules string, err error) {
	roots := []string{"/"}
	if cache, err := os.UserCacheDir(); err == nil {
		roots = append(roots, filepath.Join(cache, "rclone-blockdev-tests", "kernel"))
	}
	for _, root := range roots {
		images, _ := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*-cloud-amd64"))
		for _, image := range images {
			modules := filepath.Join(root, "lib", "modules", strings.TrimPrefix(filepath.Base(image), "vmlinuz-"), "kernel")
			if _, err := os.Stat(modules); err == nil {
				return image, modules, nil
			}
		}
	}
	return "", "", errors.New("no kernel for a virtual machine, run fstests/vm/fetch-kernel")
}
