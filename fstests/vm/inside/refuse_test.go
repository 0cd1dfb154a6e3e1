//go:build vm

package inside

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// linear makes a device of the device mapper over all of another.
func linear(t *testing.T, name, dev string, size int64, options ...string) string {
	t.Helper()
	return dm(t, name, "0 "+sectors(size)+" linear "+dev+" 0", options...)
}

// mounted makes a file system on dev and mounts it until the test ends.
func mounted(t *testing.T, dev string) (point string) {
	t.Helper()
	run(t, "mkfs.ext4", "-q", "-F", dev)
	return mount(t, dev)
}

func mount(t *testing.T, dev string) (point string) {
	t.Helper()
	point = t.TempDir()
	run(t, "mount", dev, point)
	t.Cleanup(func() { run(t, "umount", point) })
	return point
}

// A target in use is refused, with what uses it, and each case shows that nothing else would stop the write: but for
// swap, to which the kernel refuses to write itself, though not to the disk under it.
func TestRefuse_InUse(t *testing.T) {
	const size = 128 * mib // the least that btrfs takes
	for _, c := range []struct {
		name string
		use  func(t *testing.T, dev string) (target string, words []string)
	}{
		{"MountedMapping", func(t *testing.T, dev string) (string, []string) {
			mapping := linear(t, "data", dev, size)
			return mapping, []string{"it is mounted at " + mounted(t, mapping)}
		}},
		{"UnderMountedMapping", func(t *testing.T, dev string) (string, []string) {
			mapping := linear(t, "data", dev, size)
			return dev, []string{"it is held by dm-", "(data)", "which is mounted at " + mounted(t, mapping)}
		}},
		{"UnderIdleMapping", func(t *testing.T, dev string) (string, []string) {
			linear(t, "data", dev, size)
			return dev, []string{"it is held by dm-", "(data)"}
		}},
		{"DiskOfMountedPartition", func(t *testing.T, dev string) (string, []string) {
			part := partition(t, dev)
			return dev, []string{"its partition " + filepath.Base(part) + " is mounted at " + mounted(t, part)}
		}},
		{"DiskOfHeldPartition", func(t *testing.T, dev string) (string, []string) {
			part := partition(t, dev)
			linear(t, "data", part, 64*mib)
			return dev, []string{"its partition " + filepath.Base(part) + " is held by dm-", "(data)"}
		}},
		{"DiskOfSwap", func(t *testing.T, dev string) (string, []string) {
			part := partition(t, dev)
			run(t, "mkswap", part)
			run(t, "swapon", part)
			t.Cleanup(func() { run(t, "swapoff", part) })
			return dev, []string{"its partition " + filepath.Base(part) + " is used as swap"}
		}},
		{"SwapOnMapping", func(t *testing.T, dev string) (string, []string) {
			mapping := linear(t, "data", dev, size)
			run(t, "mkswap", mapping)
			run(t, "swapon", mapping)
			t.Cleanup(func() { run(t, "swapoff", mapping) })
			return mapping, []string{"it is used as swap", "swapoff "}
		}},
		{"PhysicalVolume", func(t *testing.T, dev string) (string, []string) {
			volumeGroup(t, dev)
			return dev, []string{"it is held by dm-", "(vg-data)"}
		}},
		{"MountedDevice", func(t *testing.T, dev string) (string, []string) {
			return dev, []string{"it is mounted at " + mounted(t, dev)}
		}},
		{"MountedPartition", func(t *testing.T, dev string) (string, []string) {
			part := partition(t, dev)
			return part, []string{"it is mounted at " + mounted(t, part)}
		}},
		{"PartitionOfMountedDisk", func(t *testing.T, dev string) (string, []string) {
			part := partition(t, dev)
			return part, []string{"its disk " + filepath.Base(dev) + " is mounted at " + mounted(t, dev)}
		}},
		{"DiskOfPhysicalVolume", func(t *testing.T, dev string) (string, []string) {
			part := partition(t, dev)
			volumeGroup(t, part)
			return dev, []string{"its partition " + filepath.Base(part) + " is held by dm-", "(vg-data)"}
		}},
		{"MountedLogicalVolume", func(t *testing.T, dev string) (string, []string) {
			volume := volumeGroup(t, dev)
			return volume, []string{"it is mounted at " + mounted(t, volume)}
		}},
		{"RaidMember", func(t *testing.T, dev string) (string, []string) {
			require.Need(t, require.Mdadm)
			run(t, "mdadm", "--create", "/dev/md0", "--run", "--level=1", "--raid-devices=1", "--force", dev)
			t.Cleanup(func() { run(t, "mdadm", "--stop", "/dev/md0") })
			return dev, []string{"it is held by md0", "stop md0"}
		}},
		{"DiskOfRaidMember", func(t *testing.T, dev string) (string, []string) {
			require.Need(t, require.Mdadm)
			part := partition(t, dev)
			run(t, "mdadm", "--create", "/dev/md0", "--run", "--level=1", "--raid-devices=1", "--force", part)
			t.Cleanup(func() { run(t, "mdadm", "--stop", "/dev/md0") })
			return dev, []string{"its partition " + filepath.Base(part) + " is held by md0"}
		}},
		{"BtrfsMember", func(t *testing.T, dev string) (string, []string) {
			require.Need(t, require.Btrfs)
			first := harness.Loop(t, size).Path
			run(t, "mkfs.btrfs", "-q", "-f", first, dev)
			mount(t, first)
			return dev, []string{"it belongs to the mounted btrfs file system"}
		}},
		{"ExclusiveOpen", func(t *testing.T, dev string) (string, []string) {
			mapping := linear(t, "data", dev, size)
			f, err := os.OpenFile(mapping, os.O_RDONLY|unix.O_EXCL, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return mapping, []string{"held open exclusively"}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			target, words := c.use(t, harness.Loop(t, size).Path)
			if c.name != "SwapOnMapping" {
				damage(t, target)
			}
			_, err := opened(t, target, number(t, run(t, "blockdev", "--getsize64", target)), true)
			refused(t, err, wire.CodeBusy, append(words, target)...)
		})
	}
}

// damage writes to a device the way a careless program does, puts back what was there, and fails the test when that is
// not possible: then a refusal of ours would prove nothing.
func damage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_SYNC, 0)
	if err != nil {
		t.Fatalf("a plain open is refused already: %v", err)
	}
	defer f.Close()
	old := make([]byte, 4096)
	if _, err := f.ReadAt(old, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), 0); err != nil {
		t.Fatalf("a plain write is refused already: %v", err)
	}
	if _, err := f.WriteAt(old, 0); err != nil {
		t.Fatal(err)
	}
}

// partition adds a partition of 64 MiB to a disk.
func partition(t *testing.T, disk string) string {
	t.Helper()
	run(t, "addpart", disk, "1", "2048", sectors(64*mib))
	t.Cleanup(func() { run(t, "delpart", disk, "1") })
	return disk + "p1"
}

// volumeGroup makes a group with one volume on dev and gives the volume.
func volumeGroup(t *testing.T, dev string) string {
	t.Helper()
	require.Need(t, require.LVM)
	run(t, "lvm", "vgcreate", "vg", dev)
	t.Cleanup(func() { run(t, "lvm", "vgremove", "--force", "vg") })
	run(t, "lvm", "lvcreate", "--yes", "--size=32m", "--name=data", "vg")
	return "/dev/vg/data"
}

// Volumes of a pool that LVM made are thin for us too.
func TestThin_LVM(t *testing.T) {
	const size = 16 * mib
	dev := harness.Loop(t, 128*mib).Path
	volumeGroup(t, dev)
	run(t, "lvm", "lvcreate", "--type=thin-pool", "--size=32m", "--chunksize=64k", "--zero=y", "--name=pool", "vg")
	run(t, "lvm", "lvcreate", "--virtualsize=16m", "--thinpool=pool", "--name=thin", "vg")
	src := harness.Image{Size: size, Hole: 0.5, Seed: 1}.File(t)
	sync(t, src, "/dev/vg/thin", size, 1)
	erase(t, src, 0, 8*mib)
	sync(t, src, "/dev/vg/thin", size, 1)
	if want, have := dataIn(t, src, 64<<10), mapped(t, "/dev/vg/thin"); have != want {
		t.Errorf("%d KiB allocated for %d KiB of data", have>>10, want>>10)
	}
	run(t, "lvm", "lvchange", "--zero", "n", "vg/pool")
	_, err := opened(t, "/dev/vg/thin", size, true)
	refused(t, err, wire.CodeRefused, "lvchange --zero y")
	run(t, "lvm", "lvchange", "--zero", "y", "vg/pool")
	sync(t, src, "/dev/vg/thin", size, 1)
}

// A device that was set read-only can be opened for writing: the kernel refuses the writes themselves, too late for a
// copy to say so before it begins.
func TestRefuse_ReadOnly(t *testing.T) {
	const size = 8 * mib
	target := linear(t, "data", harness.Loop(t, size).Path, size, "--readonly")
	_, err := opened(t, target, size, true)
	refused(t, err, wire.CodeReadOnly, target, "read-only")

	target = harness.Loop(t, size).Path
	run(t, "blockdev", "--setro", target)
	f, err := os.OpenFile(target, os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("a plain open is refused already: %v", err)
	}
	f.Close()
	_, err = opened(t, target, size, true)
	refused(t, err, wire.CodeReadOnly, target, "read-only", "blockdev --setrw")
	run(t, "blockdev", "--setrw", target)
	if _, err := opened(t, target, size, true); err != nil {
		t.Error(err)
	}
}

// Nothing is created where the kernel keeps devices, and what is there under another name than expected stays.
func TestRefuse_Places(t *testing.T) {
	for _, target := range []string{"/dev/sdx", "/dev/mapper/none", "/dev/vg1/mail", "/sys/block/none", "/proc/none"} {
		_, err := opened(t, target, mib, true)
		refused(t, err, wire.CodeRefused, target, "nothing is created under")
		if _, err := os.Lstat(target); err == nil {
			t.Errorf("%s was created", target)
		}
	}
	if _, err := os.Stat("/dev/vg1"); err == nil {
		t.Error("/dev/vg1 was created")
	}
	name := filepath.Join("/dev", "sdy") // as a careless program leaves it
	if err := os.WriteFile(name, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(name)
	damage(t, name)
	_, err := opened(t, name, 4096, true)
	refused(t, err, wire.CodeRefused, name, "is a regular file, in memory")
	for _, target := range []string{"/dev/null", "/dev/mapper/control", "/dev"} {
		if _, err := opened(t, target, mib, true); err == nil || !strings.Contains(err.Error(), target) {
			t.Errorf("%s: %v", target, err)
		}
	}
}
