//go:build vm

package inside

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// expecting opens a device for writing, as the one with that identity.
func expecting(t *testing.T, path, id string, pins ...string) (*host.Session, *wire.Opened, error) {
	t.Helper()
	s := session(t)
	req := new(wire.Open)
	req.Path, req.Write, req.Lead, req.Claim = path, true, true, wire.Claim{1}
	req.Size, req.Expect, req.Pins = number(t, run(t, "blockdev", "--getsize64", path)), id, pins
	o, err := s.Open(t.Context(), req)
	t.Cleanup(func() { _ = s.Close(context.Background(), false, 0) })
	return s, o, err
}

// is opens a device, checks that it has that identity, and closes it.
func is(t *testing.T, path, id string) *wire.Opened {
	t.Helper()
	s, o, err := expecting(t, path, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context(), false, 0); err != nil {
		t.Fatal(err)
	}
	return o
}

// isNot checks that a device is refused as not having that identity, and unchanged.
func isNot(t *testing.T, path, id string, pins ...string) {
	t.Helper()
	damage(t, path)
	before := harness.ReadBack(t, path)
	_, _, err := expecting(t, path, id, pins...)
	refused(t, err, wire.CodeIdentity, path)
	if !slices.Equal(before, harness.ReadBack(t, path)) {
		t.Error("it has changed")
	}
}

// script makes a partition table.
func script(t *testing.T, disk, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "sh", "-c", "sfdisk -q --wipe always "+disk+" <"+file)
}

// A disk is known by its serial number and its world wide name, a partition by its entry in the table too.
func TestIdentity_Scsi(t *testing.T) {
	for _, sector := range []string{"512", "4096"} {
		t.Run(sector, func(t *testing.T) {
			disk := scsi(t, "sector_size="+sector)
			o := is(t, disk, "")
			lasting := o.IDs[:o.Lasting]
			if len(lasting) != 2 || !strings.HasPrefix(lasting[0], "serial=") || !strings.HasPrefix(lasting[1], "wwn=0x") || len(o.Content) > 0 {
				t.Fatalf("%q, %q", o.IDs, o.Content)
			}
			for _, id := range lasting {
				_, value, _ := strings.Cut(id, "=")
				is(t, disk, id)
				is(t, disk, value)
			}
			is(t, disk, "naa."+strings.TrimPrefix(lasting[1], "wwn=0x"))
			isNot(t, disk, "wwn=naa.1")
			isNot(t, disk, "", lasting[0], "wwn=naa.1")

			const uuid = "01234567-89ab-cdef-0123-456789abcdef"
			script(t, disk, "label: gpt\nsize=1M\nsize=2M, uuid="+uuid+"\n")
			part := disk + "2"
			if got := is(t, part, uuid); !slices.Equal(got.IDs[:got.Lasting], append([]string{"partuuid=" + uuid}, lasting...)) {
				t.Errorf("%q", got.IDs)
			}
			isNot(t, disk+"1", uuid)
			if got := is(t, disk, lasting[0]); len(got.Content) != 1 || !strings.HasPrefix(got.Content[0], "gpt partition table ") {
				t.Errorf("%q", got.Content)
			}
		})
	}
}

// A logical volume is known by what lvs calls it, and a physical one is recognised.
func TestIdentity_LVM(t *testing.T) {
	dev := harness.Loop(t, 128*mib).Path
	volume := volumeGroup(t, dev)
	pv := run(t, "lvm", "pvs", "--noheadings", "-o", "pv_uuid", dev)
	id := run(t, "lvm", "lvs", "--noheadings", "-o", "lv_uuid", "vg/data")
	is(t, volume, id)
	is(t, volume, "LV-UUID="+id)
	isNot(t, volume, pv)
	run(t, "lvm", "vgchange", "-an", "vg")
	if o := is(t, dev, pv); !slices.Equal(o.Content, []string{"LVM2_member " + pv}) {
		t.Errorf("%q", o.Content)
	}
	run(t, "lvm", "vgchange", "-ay", "vg")
}

// Members of an array are recognised in every format, as blkid does.
func TestContent_Raid(t *testing.T) {
	require.Need(t, require.Mdadm)
	for _, format := range []string{"0.90", "1.0", "1.1", "1.2"} {
		t.Run(format, func(t *testing.T) {
			dev := harness.Loop(t, 16*mib).Path
			run(t, "mdadm", "--create", "/dev/md0", "--run", "--level=1", "--raid-devices=1", "--force", "--metadata="+format, dev)
			run(t, "mdadm", "--stop", "/dev/md0")
			uuid := run(t, "blkid", "-p", "-o", "value", "-s", "UUID", dev)
			o := is(t, dev, uuid)
			if len(o.Content) != 1 || !strings.HasPrefix(o.Content[0], "linux_raid_member ") || !strings.HasSuffix(o.Content[0], " "+uuid) {
				t.Errorf("%q, blkid %s", o.Content, uuid)
			}
		})
	}
}

// The kernel knows the partitions that were copied to a whole disk, when it was asked to look.
func TestReread(t *testing.T) {
	const size = 8 * mib
	src := harness.Image{Size: size, Seed: 4}.File(t)
	script(t, src, "label: dos\nsize=1M\nsize=2M\n")
	for _, c := range []struct {
		name string
		disk func(t *testing.T) (path, part string)
	}{
		{"Scsi", func(t *testing.T) (string, string) {
			disk := scsi(t, "")
			return disk, disk + "2"
		}},
		{"Loop", func(t *testing.T) (string, string) {
			file := filepath.Join(t.TempDir(), "backing")
			if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
				t.Fatal(err)
			}
			disk := run(t, "losetup", "--partscan", "--find", "--show", file)
			t.Cleanup(func() { run(t, "losetup", "-d", disk) })
			return disk, disk + "p2"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk, part := c.disk(t)
			sync(t, src, disk, size, 2)
			if exists(part) {
				t.Fatal("the partitions are known without asking: this test proves nothing")
			}
			copyAndReread(t, src, disk, size)
			if !exists(part) || number(t, run(t, "blockdev", "--getsize64", part)) != 2*mib {
				t.Errorf("%s is not there, or of another size", part)
			}
			harness.Same(t, src, disk)

			// One that is in use keeps the old table, and the copy is a success.
			f, err := os.Open(part)
			if err != nil {
				t.Fatal(err)
			}
			other := harness.Image{Size: size, Seed: 5}.File(t)
			copyAndReread(t, other, disk, size)
			if !exists(part) {
				t.Error("a partition in use is gone")
			}
			harness.Same(t, other, disk)
			f.Close()
			copyAndReread(t, other, disk, size)
			if exists(part) {
				t.Error("a partition that is in no table is still there")
			}
		})
	}
}

func copyAndReread(t *testing.T, src, disk string, size int64) {
	t.Helper()
	from, err := opened(t, src, -1, false)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close(context.Background(), false, 0)
	to, err := opened(t, disk, size, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := host.Join(t.Context(), from, to, block.Range{Length: size, BlockSize: block.DefaultSize}, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	if err := to.End(t.Context(), &wire.Close{Commit: true, Reread: true}); err != nil {
		t.Fatal(err)
	}
}
