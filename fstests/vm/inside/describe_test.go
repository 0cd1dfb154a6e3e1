//go:build vm

package inside

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rclone/rclone/fs"

	_ "github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// described checks what the command info tells of a device, and that its metadata tell the same of what they have.
// What is wanted as "" must not be there.
func described(t *testing.T, dev string, want map[string]string) {
	t.Helper()
	f, err := fs.NewFs(t.Context(), "blockdev:localhost"+filepath.Dir(dev))
	if err != nil {
		t.Fatal(err)
	}
	found, err := f.Features().Command(t.Context(), "info", []string{filepath.Base(dev)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	o, err := f.NewObject(t.Context(), filepath.Base(dev))
	if err != nil {
		t.Fatal(err)
	}
	metadata, err := o.(fs.Metadataer).Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info := found.(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(want)) {
		got, there := info[key]
		if text := fmt.Sprint(got); there != (want[key] != "") || there && text != want[key] {
			t.Errorf("%s: %s is %q, want %q", dev, key, text, want[key])
		}
		if meta, ok := metadata[key]; ok && meta != want[key] {
			t.Errorf("%s: %s is %q in the metadata, want %q", dev, key, meta, want[key])
		}
	}
}

func TestDescribe_Scsi(t *testing.T) {
	t.Run("Thin", func(t *testing.T) {
		dev := scsi(t, "inq_vendor=Maker inq_product=Disk sector_size=4096 physblk_exp=1 opt_blks=64 lbpu=1 lbprz=1 unmap_granularity=4")
		described(t, dev, map[string]string{
			"kind": "device", "path": dev, "number": "8:0", "size": fmt.Sprint(scsiSize), "vendor": "Maker", "model": "Disk",
			"serial": "2000", "wwn": "0x33333330000007d0", "logical-sector-size": "4096", "physical-sector-size": "8192",
			"optimal-io-size": fmt.Sprint(64 * 4096), "discard": "true", "discard-granularity": fmt.Sprint(4 * 4096), "thin": "true",
			"rotational": "false", "removable": "false", "read-only": "false", "holder": "", "mount": "", "in-use": "", "partition-of": "",
		})
	})
	t.Run("Rotational", func(t *testing.T) {
		dev := scsi(t, "removable=1 wp=1")
		// The simulated disk says that nothing turns.
		if err := os.WriteFile(filepath.Join("/sys/block", filepath.Base(dev), "queue/rotational"), []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
		described(t, dev, map[string]string{
			"model": "scsi_debug", "logical-sector-size": "512", "physical-sector-size": "512", "discard": "false", "discard-max": "0",
			"discard-granularity": "0", "thin": "false", "rotational": "true", "removable": "true", "read-only": "true",
		})
	})
	t.Run("Partition", func(t *testing.T) {
		dev := scsi(t, "sector_size=4096")
		run(t, "addpart", dev, "1", sectors(mib), sectors(4*mib))
		t.Cleanup(func() { run(t, "delpart", dev, "1") })
		part := dev + "1"
		point := mounted(t, part)
		name := filepath.Base(part)
		described(t, part, map[string]string{
			"size": fmt.Sprint(4 * mib), "partition-of": filepath.Base(dev), "model": "scsi_debug", "serial": "2000",
			"logical-sector-size": "4096", "physical-sector-size": "4096", "thin": "false", "mount": "[" + point + "]",
			"in-use": "[it is mounted at " + point + "]", "number": "8:1",
		})
		described(t, dev, map[string]string{
			"partition-of": "", "mount": "[" + point + "]", "in-use": "[its partition " + name + " is mounted at " + point + "]",
		})
	})
	t.Run("Held", func(t *testing.T) {
		dev := scsi(t, "")
		mapping := linear(t, "data", dev, scsiSize)
		holder := kernelName(t, mapping)
		described(t, dev, map[string]string{"holder": "[" + holder + "]", "in-use": "[it is held by " + holder + " (data)]", "mount": ""})
		described(t, mapping, map[string]string{
			"path": mapping, "dm-name": "data", "dm-uuid": "", "model": "", "serial": "", "thin": "", "holder": "", "in-use": "",
		})
	})
}

// kernelName is what the kernel calls a device of the device mapper.
func kernelName(t *testing.T, dev string) string {
	t.Helper()
	return run(t, "dmsetup", "info", "--columns", "--noheadings", "-o", "blkdevname", dev)
}

func TestDescribe_Thin(t *testing.T) {
	const chunk = 128 << 10
	p := newPool(t, chunk)
	volume := p.volume(t, "volume", 16*mib)
	described(t, volume, map[string]string{
		"dm-name": "volume", "size": fmt.Sprint(16 * mib), "thin": "true", "discard": "true", "discard-granularity": fmt.Sprint(chunk),
		"write-zeroes-max": "0", "mount": "", "in-use": "",
	})
	point := mounted(t, volume)
	described(t, volume, map[string]string{"mount": "[" + point + "]", "in-use": "[it is mounted at " + point + "]"})
	holder := kernelName(t, volume)
	described(t, p.path, map[string]string{
		"thin": "", "holder": "[" + holder + "]",
		"in-use": fmt.Sprintf("[it is held by %s (volume), which is mounted at %s]", holder, point),
	})
}

func TestDescribe_LVM(t *testing.T) {
	require.Need(t, require.LVM)
	dev := scsi(t, "dev_size_mb=96")
	volume := volumeGroup(t, dev)
	run(t, "lvm", "lvcreate", "--type=thin-pool", "--size=16m", "--chunksize=64k", "--name=pool", "vg")
	run(t, "lvm", "lvcreate", "--virtualsize=16m", "--thinpool=pool", "--name=thin", "vg")
	described(t, volume, map[string]string{"dm-name": "vg-data", "thin": "", "size": fmt.Sprint(32 * mib), "in-use": ""})
	described(t, "/dev/vg/thin", map[string]string{"dm-name": "vg-thin", "thin": "true", "discard-granularity": fmt.Sprint(64 << 10)})
	ids := strings.Fields(run(t, "lvm", "lvs", "--noheadings", "-o", "vg_uuid,lv_uuid", "vg/thin"))
	described(t, "/dev/vg/thin", map[string]string{"dm-uuid": "LVM-" + strings.ReplaceAll(strings.Join(ids, ""), "-", "")})
}
