// Package require is the one gate for tests that need more than a Go tool chain.
//
// A test names the things it needs. Where one is missing the test is skipped with a reason that says what to
// install or how to run; where the environment variable BLOCKDEV_TEST_REQUIRE lists the thing, or is "all", the
// test fails instead, so that a gate machine cannot pass by skipping. No other skip is allowed in this project.
//
// The package imports nothing of the project, so that every test may use it.
package require

import (
	"os"
	"strings"
	"testing"
)

// Thing is something of the machine that a test cannot bring along.
type Thing string

// The things a test can ask for. Their values are the names that BLOCKDEV_TEST_REQUIRE accepts.
const (
	Root    Thing = "root"    // effective user id 0
	Sshd    Thing = "sshd"    // OpenSSH server program
	SSH     Thing = "ssh"     // OpenSSH client program
	Loop    Thing = "loop"    // loop devices can be attached now
	Losetup Thing = "losetup" // the program alone, without the right to attach
	Mount   Thing = "mount"   // file systems can be mounted now
	Fuse    Thing = "fuse"    // /dev/fuse can be opened and fusermount3 exists
	Rsync   Thing = "rsync"   // the rsync program
	Mkfs    Thing = "mkfs"    // mkfs.ext4
	Xfs     Thing = "xfs"     // mkfs.xfs
	Fdisk   Thing = "fdisk"   // sfdisk
	Sudo    Thing = "sudo"    // sudo -n works for the current user
	Doas    Thing = "doas"    // the doas program
	Dash    Thing = "dash"    // the dash shell
	Busybox Thing = "busybox" // busybox with its shell
	Git     Thing = "git"     // the git program
	Cgo     Thing = "cgo"     // a C compiler and the headers of the C library
	Curl    Thing = "curl"    // the curl program
	Nfs     Thing = "nfs"     // nfs-cat and nfs-ls, NFS clients that need no kernel
	Sftp    Thing = "sftp"    // OpenSSH's sftp program
	Restic  Thing = "restic"  // the restic program
	Borg    Thing = "borg"    // the borg program
	VM      Thing = "vm"      // what fstests/vm needs: an emulator, a kernel and dmsetup
	LVM     Thing = "lvm"     // the tools of LVM
	Mdadm   Thing = "mdadm"   // the tool of Linux's software RAID
	Btrfs   Thing = "btrfs"   // mkfs.btrfs
	Vfat    Thing = "vfat"    // mkfs.vfat
	Blkid   Thing = "blkid"   // blkid of util-linux
	Zram    Thing = "zram"    // disks in compressed memory can be made
	Thin    Thing = "thin"    // thin_dump, which reads the metadata of thin pools
	Qemu    Thing = "qemu"    // the program of qemu for images
	Xxd     Thing = "xxd"     // the xxd program
	Jq      Thing = "jq"      // the jq program
	Stage   Thing = "stage"   // namespaces, overlayfs and the programs that make machines of a stage
	Mandoc  Thing = "mandoc"  // mandoc, which checks manual pages
	Man     Thing = "man"     // man with groff
	Dpkg    Thing = "dpkg"    // packages of Debian can be installed
	Lintian Thing = "lintian" // the checker of packages of Debian
	Rpm     Thing = "rpm"     // the rpm program
	Systemd Thing = "systemd" // systemd and its programs; nothing needs to run
	Zsh     Thing = "zsh"     // the zsh shell
	Fish    Thing = "fish"    // the fish shell
	Overlay Thing = "overlay" // overlayfs can be mounted now
	Strip   Thing = "strip"   // strip of binutils

	// BashCompletion is what the completions of programs need in bash.
	BashCompletion Thing = "bash-completion"
)

// Variable is the environment variable that turns skips into failures: "all", or things separated by commas.
const Variable = "BLOCKDEV_TEST_REQUIRE"

// Need returns when every thing is there. Otherwise it ends the test: as skipped, or as failed where Variable
// asks for a missing thing. Probes run once per process.
func Need(t testing.TB, things ...Thing) {
	t.Helper()
	var missing []string
	mandatory := false
	for _, thing := range things {
		err := Missing(thing)
		if err == nil {
			continue
		}
		missing = append(missing, string(thing)+": "+err.Error())
		must, bad := demanded(os.Getenv(Variable), thing)
		if bad != "" {
			t.Fatalf("%s names %q, which is no thing a test can need", Variable, bad)
		}
		mandatory = mandatory || must
	}
	if missing == nil {
		return
	}
	reason := strings.Join(missing, "; ")
	if mandatory {
		t.Fatalf("needed here (%s=%s) but missing: %s", Variable, os.Getenv(Variable), reason)
	}
	t.Skipf("needs %s", reason)
}

// Missing says why a thing is not available and what to do about it, or returns nil when it is there.
// A test that only widens what it covers, instead of depending on the thing, may branch on it.
func Missing(thing Thing) error {
	probe, ok := probes[thing]
	if !ok {
		panic("internal error: no probe for " + string(thing))
	}
	return probe()
}

// demanded reports whether the value of Variable forbids to skip for the thing, and the first word in it that
// names nothing: a misspelt word would otherwise loosen the gate unseen.
func demanded(value string, thing Thing) (must bool, bad string) {
	for word := range strings.SplitSeq(value, ",") {
		word = strings.TrimSpace(word)
		switch {
		case word == "":
		case word == "all", word == string(thing):
			must = true
		case probes[Thing(word)] == nil:
			return false, word
		}
	}
	return must, ""
}
