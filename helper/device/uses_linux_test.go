package device

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// fakeKernel is a host with volume managers, which the machine that tests run on
// may not have: disk 8:0 with partitions 8:1 to 8:3, a volume on 8:1 and 8:2, an
// array on 8:16 that carries another volume, and btrfs on 8:32.
func fakeKernel(t *testing.T) kernel {
	t.Helper()
	root := t.TempDir()
	k := kernel{sys: filepath.Join(root, "sys"), proc: filepath.Join(root, "proc"), run: filepath.Join(root, "run")}
	files := map[string]string{
		"sys/devices/sda/dev":                      "8:0\n",
		"sys/devices/sda/size":                     "4096",
		"sys/devices/sda/ro":                       "0",
		"sys/devices/sda/queue/rotational":         "1\n",
		"sys/devices/sda/queue/logical_block_size": "4096\n",
		"sys/devices/sda/sda1/dev":                 "8:1",
		"sys/devices/sda/sda1/partition":           "1",
		"sys/devices/sda/sda1/size":                "1024",
		"sys/devices/sda/sda1/ro":                  "1",
		"sys/devices/sda/sda2/dev":                 "8:2",
		"sys/devices/sda/sda2/partition":           "2",
		"sys/devices/sda/sda3/dev":                 "8:3",
		"sys/devices/sda/sda3/partition":           "3",
		"sys/devices/sdb/dev":                      "8:16",
		"sys/devices/sdc/dev":                      "8:32",
		"sys/devices/dm-0/dev":                     "253:0",
		"sys/devices/dm-0/dm/name":                 "vg-root",
		"sys/devices/dm-1/dev":                     "253:1",
		"sys/devices/dm-1/dm/name":                 "vg-idle",
		"sys/devices/md127/dev":                    "9:127",
		"sys/fs/btrfs/1234-abcd/devices/sdc/x":     "",
		"proc/self/mountinfo": "22 1 253:0 / / rw,noatime shared:1 - ext4 /dev/mapper/vg-root rw\n" +
			"23 22 8:3 / /mnt/my\\040disk ro - ext4 /dev/sda3 ro\n" +
			"garbage\n",
		"proc/swaps": "Filename Type Size Used Priority\n",
	}
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, []byte(content))
	}
	links := map[string]string{
		"sys/dev/block/8:0": "sda", "sys/dev/block/8:1": "sda/sda1", "sys/dev/block/8:2": "sda/sda2", "sys/dev/block/8:3": "sda/sda3",
		"sys/dev/block/8:16": "sdb", "sys/dev/block/8:32": "sdc", "sys/dev/block/253:0": "dm-0",
		"sys/devices/sda/sda1/holders/dm-0": "dm-0", "sys/devices/sda/sda2/holders/dm-1": "dm-1",
		"sys/devices/sdb/holders/md127": "md127", "sys/devices/md127/holders/dm-0": "dm-0",
	}
	for name, to := range links {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(root, "sys/devices", to), path); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func TestKernel_Uses(t *testing.T) {
	k := fakeKernel(t)
	tests := []struct {
		id   string
		want string // uses, with ! behind those that tear a copy
	}{
		{"b:8:1", "it is held by dm-0 (vg-root), which is mounted at /!"},
		{"b:8:2", "it is held by dm-1 (vg-idle)"},
		{"b:8:3", "it is mounted at /mnt/my disk"},
		{"b:8:0", "its partition sda1 is held by dm-0 (vg-root), which is mounted at /!; " +
			"its partition sda2 is held by dm-1 (vg-idle); its partition sda3 is mounted at /mnt/my disk"},
		{"b:8:16", "it is held by md127, which is held by dm-0 (vg-root), which is mounted at /!"},
		{"b:8:32", "it belongs to the mounted btrfs file system 1234-abcd!"},
		{"b:253:0", "it is mounted at /!"},
		{"b:9:9", ""},
		{"f:8:1", ""},
	}
	for _, tt := range tests {
		var got []string
		for _, u := range k.uses(tt.id) {
			s := u.String()
			if u.torn {
				s += "!"
			}
			got = append(got, s)
		}
		if strings.Join(got, "; ") != tt.want {
			t.Errorf("%s: got %q\nwant %q", tt.id, got, tt.want)
		}
	}
}

func TestKernel_Describe(t *testing.T) {
	k := fakeKernel(t)
	disk, err := k.describe("/dev/sda", number{8, 0})
	want := Info{Kind: Block, Size: 4096 * 512, Allocated: -1, BlockSize: 4096, Rotational: true, ID: "b:8:0"}
	if err != nil || disk != want {
		t.Errorf("disk: %+v, %v", disk, err)
	}
	part, err := k.describe("/dev/sda1", number{8, 1})
	want.Size, want.ReadOnly, want.ID = 1024*512, true, "b:8:1"
	if err != nil || part != want {
		t.Errorf("partition: %+v, %v", part, err)
	}
	_, err = k.describe("/dev/sdz", number{99, 9})
	wantError(t, err, ErrNotFound, "/dev/sdz", "99:9")
	_, err = kernel{sys: "/nonexistent"}.describe("/dev/sda", number{8, 0})
	wantError(t, err, ErrUnsupported, "/dev/sda", "not mounted")
}

// The table of mounts is made up: it says that the directory of the test is on
// the file system of devices.
func TestKernel_Tree(t *testing.T) {
	dir := existing(t.TempDir())
	fi, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := numberOf(uint64(fi.Sys().(*syscall.Stat_t).Dev))
	for _, tt := range []struct{ fstype, point, want string }{
		{"devtmpfs", dir, dir},
		{"devtmpfs", filepath.Dir(dir), filepath.Dir(dir)},
		{"devtmpfs", "/", "/"},
		{"devtmpfs", dir + "x", ""},
		{"ext4", dir, ""},
	} {
		k := kernel{proc: t.TempDir()}
		if err := os.Mkdir(filepath.Join(k.proc, "self"), 0o755); err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("24 27 %v / %s rw,relatime - %s none rw\n", n, tt.point, tt.fstype)
		writeFile(t, filepath.Join(k.proc, "self/mountinfo"), []byte(line))
		if got := k.tree(dir); got != tt.want {
			t.Errorf("%s at %s: %q, want %q", tt.fstype, tt.point, got, tt.want)
		}
	}
}
