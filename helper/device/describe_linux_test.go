package device

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// facts are properties on one line.
func facts(all []Property) string {
	var out []string
	for _, p := range all {
		out = append(out, p.Key+"="+p.Value)
	}
	return strings.Join(out, "; ")
}

// add puts files below the root of a made-up kernel.
func (k kernel) add(t *testing.T, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(filepath.Dir(k.sys), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, []byte(content))
	}
}

func TestKernel_Device(t *testing.T) {
	k := fakeKernel(t)
	k.add(t, map[string]string{
		"sys/devices/sda/device/model":                               "Samsung SSD 870 \n",
		"sys/devices/sda/device/vendor":                              "ATA     \n",
		"sys/devices/sda/device/wwid":                                "t10.ATA\n",
		"sys/devices/sda/device/scsi_disk/0:0:0:0/thin_provisioning": "0\n",
		"sys/devices/sda/removable":                                  "0\n",
		"sys/devices/sda/queue/physical_block_size":                  "8192\n",
		"sys/devices/sda/queue/optimal_io_size":                      "65536\n",
		"sys/devices/sda/queue/discard_granularity":                  "4096\n",
		"sys/devices/sda/queue/discard_max_bytes":                    "1073741824\n",
		"sys/devices/sda/queue/write_zeroes_max_bytes":               "0\n",
		"run/udev/data/b8:0":                                         "S:disk/by-id/x\nE:ID_MODEL_ENC=Samsung\\x20SSD\\x20870\\x20EVO\\x20\nE:ID_SERIAL_SHORT=0012\nE:ID_WWN=0x5002\nE:ID_BUS=ata\nE:ID_PART_TABLE_TYPE=gpt\n",
		"sys/devices/sdb/device/vendor":                              "0x1af4\n",
		"sys/devices/sdb/serial":                                     "virtual-1\n",
		"sys/devices/sdb/removable":                                  "1\n",
		"sys/devices/sdc/device/vendor":                              "Maker   \n",
		"sys/devices/sdc/device/model":                               "Disk            \n",
		"sys/devices/sdc/device/wwid":                                "naa.50014ee2\n",
		"sys/devices/sdc/device/vpd_pg80":                            "\x00\x80\x00\x010",
		"run/udev/data/b8:32":                                        "E:ID_SERIAL_SHORT=50014ee2\nE:ID_SCSI_SERIAL=0012\n",
		"sys/devices/sdc/device/scsi_disk/0:0:0:0/thin_provisioning": "1\n",
		"sys/devices/dm-0/dm/uuid":                                   "LVM-abc\n",
		"sys/devices/dm-0/slaves/dm-1/dm/uuid":                       "LVM-def-tpool\n",
	})
	const limits = "physical-sector-size=8192; optimal-io-size=65536; discard-granularity=4096; discard-max=1073741824; write-zeroes-max=0; discard=true; removable=false; thin=false"
	const made = "model=Samsung SSD 870 EVO; serial=0012; wwn=0x5002; bus=ata"
	for id, want := range map[string]string{
		"b:8:0":   "number=8:0; " + made + "; partition-table=gpt; " + limits + "; holder=dm-0; holder=dm-1; mount=/mnt/my disk",
		"b:8:1":   "number=8:1; partition-of=sda; " + made + "; " + limits + "; holder=dm-0",
		"b:8:3":   "number=8:3; partition-of=sda; " + made + "; " + limits + "; mount=/mnt/my disk",
		"b:8:16":  "number=8:16; serial=virtual-1; discard=false; removable=true; holder=md127",
		"b:8:32":  "number=8:32; vendor=Maker; model=Disk; serial=0012; wwn=0x50014ee2; discard=false; removable=false; thin=true",
		"b:253:0": "number=253:0; dm-name=vg-root; dm-uuid=LVM-abc; discard=false; removable=false; thin=true; mount=/",
		"b:9:9":   "",
	} {
		var p properties
		if k.device(&p, id); facts(p) != want {
			t.Errorf("%s: got\n%s\nwant\n%s", id, facts(p), want)
		}
	}
}

func TestUnitSerial(t *testing.T) {
	for page, want := range map[string]string{
		"\x00\x80\x00\x06 0012 and more": "0012",
		"\x00\x80\x00\x20no longer":      "no longer",
		"\x00\x80\x00\x04AB\x00\x00":     "AB",
		"\x00\x83\x00\x04ABCD":           "",
		"\x00\x80\x00":                   "",
	} {
		disk := t.TempDir()
		if err := os.Mkdir(filepath.Join(disk, "device"), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(disk, "device/vpd_pg80"), []byte(page))
		if got := unitSerial(disk); got != want {
			t.Errorf("%q: got %q", page, got)
		}
	}
	if got := unitSerial(t.TempDir()); got != "" {
		t.Errorf("got %q without a page", got)
	}
}

func TestDescribe_Loop(t *testing.T) {
	require.Need(t, require.Root, require.Loop, require.Mount, require.Mkfs)
	dev := loop(t, image(t, 16*mib), "--sector-size=4096")
	link := filepath.Join(t.TempDir(), "my disk")
	if err := os.Symlink(dev, link); err != nil {
		t.Fatal(err)
	}
	idle, err := Describe(link, false)
	if err != nil {
		t.Fatal(err)
	}
	point := mounted(t, dev)
	got, err := Describe(link, false)
	if err != nil {
		t.Fatal(err)
	}
	text := "; " + facts(got) + "; "
	for _, want := range []string{"kind=device", "path=" + dev, "size=16777216", "logical-sector-size=4096", "physical-sector-size=4096",
		"read-only=false", "removable=false", "discard=true", "mount=" + point, "in-use=it is mounted at " + point} {
		if !strings.Contains(text, "; "+want+"; ") {
			t.Errorf("%s is missing in %s", want, text)
		}
	}
	if text := facts(idle); strings.Contains(text, "mount") {
		t.Errorf("not mounted, but %s", text)
	}
}

func TestDescribe_Files(t *testing.T) {
	path := image(t, mib)
	dev := loop(t, path)
	got, err := Describe(path, false)
	if text := facts(got); err != nil || !strings.HasPrefix(text, "kind=file; path="+path+"; size=1048576; mtime=20") ||
		!strings.Contains(text, "; allocated=0; in-use=it is attached to "+dev) {
		t.Errorf("%s, %v", text, err)
	}
	dir := filepath.Dir(path)
	if got, err := Describe(dir, true); err != nil || facts(got) != "kind=directory; path="+dir {
		t.Errorf("%v, %v", got, err)
	}
	_, err = Describe("/dev/null", true)
	wantError(t, err, ErrNotFile, "/dev/null")
	_, err = Describe(path+"x", true)
	wantError(t, err, ErrNotFound, path+"x")
}
