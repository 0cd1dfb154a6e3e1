package require

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// probes holds one cached check per thing. Each tries the real operation where there is one, because a program
// that exists or a device node that is there says little inside a container.
var probes = map[Thing]func() error{
	Root:    sync.OnceValue(probeRoot),
	Sshd:    sync.OnceValue(func() error { _, err := SshdPath(); return err }),
	SSH:     program("ssh", "openssh-client"),
	Loop:    sync.OnceValue(probeLoop),
	Losetup: program("losetup", "util-linux"),
	Mount:   sync.OnceValue(probeMount),
	Fuse:    sync.OnceValue(probeFuse),
	Rsync:   program("rsync", "rsync"),
	Mkfs:    program("mkfs.ext4", "e2fsprogs"),
	Xfs:     program("mkfs.xfs", "xfsprogs"),
	Fdisk:   program("sfdisk", "fdisk"),
	Sudo:    sync.OnceValue(probeSudo),
	Doas:    program("doas", "opendoas"),
	Dash:    program("dash", "dash"),
	Busybox: program("busybox", "busybox"),
	Git:     program("git", "git"),
	Cgo:     sync.OnceValue(probeCgo),
	Curl:    program("curl", "curl"),
	Nfs:     program("nfs-cat", "libnfs-utils"),
	Sftp:    program("sftp", "openssh-client"),
	Restic:  program("restic", "restic"),
	Borg:    program("borg", "borgbackup"),
	VM:      sync.OnceValue(probeVM),
	LVM:     program("lvm", "lvm2"),
	Mdadm:   program("mdadm", "mdadm"),
	Btrfs:   program("mkfs.btrfs", "btrfs-progs"),
	Vfat:    program("mkfs.vfat", "dosfstools"),
	Blkid:   program("blkid", "util-linux"),
	Zram:    sync.OnceValue(probeZram),
	Thin:    program("thin_dump", "thin-provisioning-tools"),
	Qemu:    program("qemu-img", "qemu-utils"),
	Xxd:     program("xxd", "xxd"),
	Jq:      program("jq", "jq"),
	Stage:   sync.OnceValue(probeStage),
	Mandoc:  program("mandoc", "mandoc"),
	Man:     program("man", "man-db"),
	Dpkg:    program("dpkg", "dpkg, on Debian and its relatives"),
	Lintian: program("lintian", "lintian"),
	Rpm:     program("rpm", "rpm"),
	Systemd: program("systemd-analyze", "systemd"),
	Zsh:     program("zsh", "zsh"),
	Fish:    program("fish", "fish"),
	Overlay: sync.OnceValue(probeOverlay),
	Strip:   program("strip", "binutils"),

	BashCompletion: func() error {
		if _, err := os.Stat("/usr/share/bash-completion/bash_completion"); err != nil {
			return errors.New("bash_completion not found, install bash-completion")
		}
		return nil
	},
}

// sbin lists folders that hold system programs but are not always on the PATH of a normal user.
var sbin = []string{"/usr/sbin", "/sbin", "/usr/local/sbin"}

// Program finds an executable on PATH or in the sbin folders.
func Program(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range sbin {
		path := filepath.Join(dir, name)
		if st, statErr := os.Stat(path); statErr == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", err
}

// SshdPath finds the OpenSSH server. The path is absolute, because sshd refuses to start by a relative one.
func SshdPath() (string, error) {
	path, err := Program("sshd")
	if err != nil {
		return "", errors.New("sshd not found, install openssh-server")
	}
	return filepath.Abs(path)
}

func program(name, pkg string) func() error {
	return sync.OnceValue(func() error {
		if _, err := Program(name); err != nil {
			return fmt.Errorf("%s not found, install %s", name, pkg)
		}
		return nil
	})
}

func probeRoot() error {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("user id is %d, run the tests as root", uid)
	}
	return nil
}

// probeLoop attaches a small file and lets go of it again.
func probeLoop() error {
	const advice = "run as root on a kernel with the loop driver"
	losetup, err := Program("losetup")
	if err != nil {
		return errors.New("losetup not found, install util-linux")
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w, %s", err, advice)
	}
	control.Close()
	dir, err := os.MkdirTemp("", "require-loop")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	backing := filepath.Join(dir, "backing")
	if err := os.WriteFile(backing, make([]byte, 64<<10), 0o600); err != nil {
		return err
	}
	out, err := run(losetup, "--find", "--show", backing)
	if err != nil {
		return fmt.Errorf("%w, %s", err, advice)
	}
	_, err = run(losetup, "--detach", out)
	return err
}

// probeStage makes the namespaces of a machine of package harness, and the file system below its root.
func probeStage() error {
	if err := probeRoot(); err != nil {
		return err
	}
	for name, pkg := range map[string]string{"unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2", "bash": "bash"} {
		if _, err := Program(name); err != nil {
			return fmt.Errorf("%s not found, install %s", name, pkg)
		}
	}
	const overlay = "mount -t tmpfs none /mnt && cd /mnt && mkdir a b c && mount -t overlay -o lowerdir=/,upperdir=a,workdir=b none c"
	if _, err := run("unshare", "--net", "--pid", "--fork", "--mount", "--uts", "--propagation", "private", "sh", "-c", overlay); err != nil {
		return fmt.Errorf("%w, run as root on a kernel with overlayfs, outside a container", err)
	}
	return nil
}

// probeMount mounts a tmpfs, which needs the same privilege as any other mount and no device.
func probeMount() error {
	mount, err := Program("mount")
	if err != nil {
		return errors.New("mount not found, install mount")
	}
	umount, err := Program("umount")
	if err != nil {
		return errors.New("umount not found, install mount")
	}
	dir, err := os.MkdirTemp("", "require-mount")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if _, err := run(mount, "-t", "tmpfs", "-o", "size=64k", "none", dir); err != nil {
		return fmt.Errorf("%w, run as root outside an unprivileged container", err)
	}
	_, err = run(umount, dir)
	return err
}

// probeOverlay mounts the root of this machine with a layer above it, in a mount namespace that ends with that.
func probeOverlay() error {
	dir, err := os.MkdirTemp("", "require-overlay")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	const try = `cd "$1" && mkdir upper work root && mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work none root`
	if _, err := run("unshare", "--mount", "--propagation", "private", "sh", "-c", try, "sh", dir); err != nil {
		return fmt.Errorf("%w, run as root on a kernel with overlayfs", err)
	}
	return nil
}

func probeFuse() error {
	if _, err := Program("fusermount3"); err != nil {
		return errors.New("fusermount3 not found, install fuse3")
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w, load the fuse module or give the container /dev/fuse", err)
	}
	return f.Close()
}

func probeZram() error {
	if _, err := os.Stat("/sys/class/zram-control/hot_add"); err != nil {
		return fmt.Errorf("%w, load the zram module", err)
	}
	return nil
}

func probeSudo() error {
	sudo, err := Program("sudo")
	if err != nil {
		return errors.New("sudo not found, install sudo")
	}
	if _, err := run(sudo, "-n", "true"); err != nil {
		return fmt.Errorf("%w, allow sudo without a password or run as root", err)
	}
	return nil
}

// probeCgo compiles and links a program, with the compiler that the go tool would take.
func probeCgo() error {
	cc, err := run("go", "env", "CC")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "require-cgo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	source := filepath.Join(dir, "main.c")
	if err := os.WriteFile(source, []byte("#include <stdlib.h>\nint main() { return 0; }\n"), 0o600); err != nil {
		return err
	}
	words := append(strings.Fields(cc), "-o", filepath.Join(dir, "main"), source)
	if _, err := run(words[0], words[1:]...); err != nil {
		return fmt.Errorf("%w, install gcc and libc6-dev", err)
	}
	return nil
}

// run returns the trimmed output of a program; its error holds what the program said.
func run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		said := strings.Join(strings.Fields(stderr.String()), " ")
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(name), err, said)
	}
	return strings.TrimSpace(string(out)), nil
}
