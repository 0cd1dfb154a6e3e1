//go:build vm

package inside

import (
	"crypto/rand"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// watched is one run on a target that ends before it is complete: what it was told, and its name.
func watched(t *testing.T, path string) (*wire.Proof, wire.Claim) {
	t.Helper()
	s, err := opened(t, path, number(t, run(t, "blockdev", "--getsize64", path)), true)
	if err != nil {
		t.Fatal(err)
	}
	var name wire.Claim
	rand.Read(name[:])
	p, err := s.Trust(t.Context(), name)
	if err != nil || !p.Able {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := s.Close(t.Context(), false, 0); err != nil {
		t.Fatal(err)
	}
	return p, name
}

// scribbled writes to a device past the cache.
func scribbled(t *testing.T, path string) {
	t.Helper()
	scribbledAt(t, path, 9)
}

// scribbledAt writes a block of 4 KiB.
func scribbledAt(t *testing.T, path string, block int) {
	t.Helper()
	run(t, "dd", "if=/dev/urandom", "of="+path, "bs=4096", "count=1", "seek="+strconv.Itoa(block), "oflag=direct", "conv=notrunc")
}

// Who writes to a SCSI disk, to a volume on it or to the disk below a volume, or gives the volume another table, leaves no
// proof; left alone there is one, and it says what it does not see.
func TestTrust_Layers(t *testing.T) {
	t.Setenv("BLOCKDEV_WITNESS_DIR", t.TempDir())
	disk := scsi(t, "")
	half := sectors(scsiSize / 2)
	table := "0 " + half + " linear " + disk + " 0"
	volume := func(t *testing.T) string { return dm(t, "watched", table) }
	for _, c := range []struct {
		name  string
		write func(t *testing.T, target string)
		seen  string // empty for nothing
	}{
		{"Nothing", func(*testing.T, string) {}, ""},
		{"Itself", func(t *testing.T, target string) { scribbled(t, target) }, "what was written to"},
		{"Above", func(t *testing.T, target string) {
			run(t, "dmsetup", "create", "above", "--table", "0 8 linear "+target+" 0")
			run(t, "dd", "if=/dev/urandom", "of=/dev/mapper/above", "bs=4096", "count=1", "oflag=direct", "conv=notrunc")
			run(t, "dmsetup", "remove", "above")
		}, "what was written to"},
		{"Discard", func(t *testing.T, target string) { run(t, "blkdiscard", "-z", target) }, "what was written to"},
	} {
		t.Run("Disk/"+c.name, func(t *testing.T) { layer(t, disk, c.write, c.seen) })
		t.Run("Volume/"+c.name, func(t *testing.T) { layer(t, volume(t), c.write, c.seen) })
	}
	t.Run("Volume/Below", func(t *testing.T) {
		layer(t, volume(t), func(t *testing.T, _ string) { scribbled(t, disk) }, "what was written to sd")
	})
	t.Run("Volume/Table", func(t *testing.T) {
		layer(t, volume(t), func(t *testing.T, target string) { reload(t, target, "0 "+half+" linear "+disk+" 8") }, "the table of dm-")
	})
}

func layer(t *testing.T, target string, write func(t *testing.T, target string), seen string) {
	t.Helper()
	_, a := watched(t, target)
	again, b := watched(t, target)
	if again.Since != a {
		t.Fatalf("nobody has written, and it says %+v", again)
	}
	write(t, target)
	p, _ := watched(t, target)
	if proved := p.Since == b; proved != (seen == "") || !strings.Contains(p.Doubt, seen) {
		t.Errorf("%+v", p)
	}
}

// stacked is a target that consists of other devices, with ways to write to what it holds, or to what it lies on.
type stacked struct {
	name   string
	block  int // of the disk, with data of the target
	make   func(t *testing.T, disk string) (target string)
	behind map[string]func(t *testing.T)
}

// linearPart is a part of a disk, of n bytes from off on.
func linearPart(t *testing.T, name, disk string, off, n int64) string {
	t.Helper()
	return dm(t, name, "0 "+sectors(n)+" linear "+disk+" "+sectors(off))
}

const stackSize = 2 * mib // of each target

// encrypted is a disk with that key.
func encrypted(disk, key string, n int64) string {
	return "0 " + sectors(n) + " crypt aes-cbc-plain64 " + strings.Repeat(key, 32) + " 0 " + disk + " 0"
}

// sharingVolumes makes a thin volume with data, and a snapshot that has all its blocks.
func sharingVolumes(t *testing.T, disk string) string {
	t.Helper()
	meta, data := linearPart(t, "tmeta", disk, 0, 2*mib), linearPart(t, "tdata", disk, 2*mib, 6*mib)
	run(t, "dd", "if=/dev/zero", "of="+meta, "bs=4096", "count=1", "oflag=direct")
	pool := dm(t, "pool", "0 "+sectors(6*mib)+" thin-pool "+meta+" "+data+" 128 0")
	run(t, "dmsetup", "message", pool, "0", "create_thin 0")
	target := dm(t, "target", "0 "+sectors(stackSize)+" thin "+pool+" 0")
	run(t, "dd", "if=/dev/urandom", "of="+target, "bs=64k", "count=16", "oflag=direct", "conv=notrunc")
	run(t, "dmsetup", "suspend", target)
	run(t, "dmsetup", "message", pool, "0", "create_snap 1 0")
	run(t, "dmsetup", "resume", target)
	dm(t, "other", "0 "+sectors(stackSize)+" thin "+pool+" 1")
	return target
}

var stacks = []stacked{
	{"Crypt", 9, func(t *testing.T, disk string) string { return dm(t, "target", encrypted(disk, "1f", stackSize)) }, map[string]func(t *testing.T){
		"Key": func(t *testing.T) {
			reload(t, "target", strings.ReplaceAll(run(t, "dmsetup", "table", "--showkeys", "target"), "1f1f", "2e1f"))
		},
	}},
	{"Thin", 600, sharingVolumes, map[string]func(t *testing.T){
		"Sharing": func(t *testing.T) { scribbled(t, "/dev/mapper/other") },
		"Data":    func(t *testing.T) { scribbled(t, "/dev/mapper/tdata") },
		"Reverted": func(t *testing.T) { // what the snapshot holds, under the name and number of the volume
			scribbled(t, "/dev/mapper/other")
			table := run(t, "dmsetup", "table", "target")
			reload(t, "target", table[:len(table)-1]+"1")
		},
	}},
	{"ThinOverOrigin", 1600, func(t *testing.T, disk string) string {
		meta, data := linearPart(t, "tmeta", disk, 0, 2*mib), linearPart(t, "tdata", disk, 2*mib, 4*mib)
		origin := linearPart(t, "origin", disk, 6*mib, stackSize)
		run(t, "dd", "if=/dev/zero", "of="+meta, "bs=4096", "count=1", "oflag=direct")
		pool := dm(t, "pool", "0 "+sectors(4*mib)+" thin-pool "+meta+" "+data+" 128 0")
		run(t, "dmsetup", "message", pool, "0", "create_thin 0")
		return dm(t, "target", "0 "+sectors(stackSize)+" thin "+pool+" 0 "+origin)
	}, map[string]func(t *testing.T){"Origin": func(t *testing.T) { scribbled(t, "/dev/mapper/origin") }}},
	{"Snapshot", 9, func(t *testing.T, disk string) string {
		base, cow := linearPart(t, "base", disk, 0, stackSize), linearPart(t, "cow", disk, 2*mib, stackSize)
		dm(t, "origin", "0 "+sectors(stackSize)+" snapshot-origin "+base)
		return dm(t, "target", "0 "+sectors(stackSize)+" snapshot "+base+" "+cow+" N 8")
	}, map[string]func(t *testing.T){
		"Origin": func(t *testing.T) { scribbled(t, "/dev/mapper/origin") },
		"Base":   func(t *testing.T) { scribbled(t, "/dev/mapper/base") },
		"Cow":    func(t *testing.T) { scribbled(t, "/dev/mapper/cow") },
	}},
	{"SnapshotOrigin", 9, func(t *testing.T, disk string) string {
		base := linearPart(t, "base", disk, 0, stackSize)
		return dm(t, "target", "0 "+sectors(stackSize)+" snapshot-origin "+base)
	}, map[string]func(t *testing.T){"Base": func(t *testing.T) { scribbled(t, "/dev/mapper/base") }}},
	{"LVMOnCrypt", 300, func(t *testing.T, disk string) string {
		require.Need(t, require.LVM)
		crypt := dm(t, "crypt", encrypted(disk, "1f", scsiSize))
		run(t, "lvm", "vgcreate", "--physicalextentsize=128k", "vg", crypt)
		t.Cleanup(func() { run(t, "lvm", "vgremove", "--force", "vg") })
		for _, name := range []string{"target", "other"} {
			run(t, "lvm", "lvcreate", "--yes", "--size=2m", "--name="+name, "vg")
		}
		return "/dev/vg/target"
	}, map[string]func(t *testing.T){
		"Other":    func(t *testing.T) { scribbled(t, "/dev/vg/other") },
		"Volume":   func(t *testing.T) { scribbledAt(t, "/dev/mapper/crypt", 300) },
		"Extended": func(t *testing.T) { run(t, "lvm", "lvextend", "--size=3m", "vg/target") },
		"Snapshot": func(t *testing.T) { // and what is written to it is merged
			run(t, "lvm", "lvcreate", "--yes", "--snapshot", "--size=1m", "--name=snap", "vg/target")
			scribbled(t, "/dev/vg/snap")
			run(t, "lvm", "lvconvert", "--merge", "vg/snap")
		},
	}},
}

// On a target that consists of others, nobody has written when nobody has; whoever writes to it, to what it lies on, or to
// what shares its blocks is seen, and so is another table or key.
func TestTrust_Stacks(t *testing.T) {
	t.Setenv("BLOCKDEV_WITNESS_DIR", t.TempDir())
	disk := scsi(t, "")
	for _, s := range stacks {
		t.Run(s.name, func(t *testing.T) {
			target := s.make(t, disk)
			_, last := watched(t, target)
			check := func(t *testing.T, seen string, write func(t *testing.T)) {
				t.Helper()
				p, name := watched(t, target)
				if p.Since != last {
					t.Fatalf("nobody has written, and it says %+v", p)
				}
				write(t)
				if p, last = watched(t, target); p.Since != (wire.Claim{}) || !strings.Contains(p.Doubt, seen) {
					t.Errorf("%x: %+v", name, p)
				}
			}
			check(t, "what was written to", func(t *testing.T) { scribbled(t, target) })
			check(t, "what was written to sd", func(t *testing.T) { scribbledAt(t, disk, s.block) })
			for _, name := range slices.Sorted(maps.Keys(s.behind)) {
				t.Run(name, func(t *testing.T) { check(t, " was ", s.behind[name]) })
			}
		})
	}
}
