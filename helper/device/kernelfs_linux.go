package device

import (
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// kernelMagic lists the file systems whose files are views into the kernel.
// devtmpfs is not among them: to statfs it is a tmpfs.
var kernelMagic = map[int64]string{
	unix.PROC_SUPER_MAGIC:      "procfs",
	unix.SYSFS_MAGIC:           "sysfs",
	unix.DEBUGFS_MAGIC:         "debugfs",
	unix.TRACEFS_MAGIC:         "tracefs",
	unix.CGROUP_SUPER_MAGIC:    "cgroup",
	unix.CGROUP2_SUPER_MAGIC:   "cgroup2",
	unix.SECURITYFS_MAGIC:      "securityfs",
	unix.SELINUX_MAGIC:         "selinuxfs",
	unix.SMACK_MAGIC:           "smackfs",
	unix.BPF_FS_MAGIC:          "bpf",
	unix.PSTOREFS_MAGIC:        "pstore",
	unix.EFIVARFS_MAGIC:        "efivarfs",
	unix.DEVPTS_SUPER_MAGIC:    "devpts",
	unix.BINFMTFS_MAGIC:        "binfmt_misc",
	unix.HUGETLBFS_MAGIC:       "hugetlbfs",
	unix.NSFS_MAGIC:            "nsfs",
	unix.RDTGROUP_SUPER_MAGIC:  "resctrl",
	unix.XENFS_SUPER_MAGIC:     "xenfs",
	unix.USBDEVICE_SUPER_MAGIC: "usbfs",
	mqueueMagic:                "mqueue",
	configfsMagic:              "configfs",
	fusectlMagic:               "fusectl",
}

// Not in x/sys; from the kernel's ipc/mqueue.c, fs/configfs and fs/fuse.
const (
	mqueueMagic   = 0x19800202
	configfsMagic = 0x62656570
	fusectlMagic  = 0x65735543
)

// kernelFS names the kernel file system that path is on, or is empty.
func kernelFS(path string) string {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return ""
	}
	return kernelMagic[int64(uint32(st.Type))]
}

// kernelTree names the tree of the kernel that dir, or the nearest of its
// parents that exists, belongs to: nothing is created or removed there. It is
// empty for ordinary directories, /dev/shm among them.
func kernelTree(dir string) string { return host.tree(existing(dir)) }

// tree is kernelTree for a directory that exists, given without symlinks.
func (k kernel) tree(dir string) string {
	if name := kernelFS(dir); name != "" {
		return "the " + name + " at " + dir
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return ""
	}
	dev := uint64(fi.Sys().(*syscall.Stat_t).Dev)
	for _, m := range k.mounts() {
		if m.fstype == "devtmpfs" && m.number == numberOf(dev) && within(dir, m.point) {
			return m.point
		}
	}
	// In a container /dev is a tmpfs, and other mounts below it are what they
	// are outside.
	root, err := os.Stat("/dev")
	if err == nil && dev == uint64(root.Sys().(*syscall.Stat_t).Dev) && within(dir, "/dev") {
		return "/dev"
	}
	return ""
}

// within reports whether dir is root or lies below it.
func within(dir, root string) bool {
	return dir == root || strings.HasPrefix(dir, strings.TrimSuffix(root, "/")+"/")
}
