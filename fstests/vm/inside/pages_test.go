//go:build vm

package inside

import (
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// The commands of LVM that stand in the pages, where a program stands in for it, are taken by the real one, and print
// what the pages say.
func TestPagesLVM(t *testing.T) {
	require.Need(t, require.LVM)
	for _, group := range []string{"vg0", "pve"} {
		run(t, "lvm", "vgcreate", group, harness.Loop(t, 256*mib).Path)
		t.Cleanup(func() { run(t, "lvm", "vgremove", "--force", "--yes", group) })
	}
	run(t, "lvm", "lvcreate", "--yes", "--type=thin-pool", "--size", "64M", "--name=data", "pve")
	for _, c := range []struct{ command, printed string }{
		{"vgs -o vg_name,vg_free vg0", "VG VFree vg0 252.00m"},
		{"lvcreate -y -L 134217728b -n mail-restored vg0", `Logical volume "mail-restored" created.`},
		{"lvremove -y vg0/mail-restored", `Logical volume "mail-restored" successfully removed.`},
		{"lvcreate -y -L 64M -n mail vg0", `Logical volume "mail" created.`},
		{"lvs --noheadings -o vg_name /dev/vg0/mail", "vg0"},
		{"lvcreate --yes --snapshot --extents 20%ORIGIN --permission r --name snap /dev/vg0/mail", `Logical volume "snap" created.`},
		{"lvremove -y vg0/snap", `Logical volume "snap" successfully removed.`},
		{"lvcreate -V 32M -T pve/data -n vm-100-disk-0", `Logical volume "vm-100-disk-0" created.`},
		{"lvcreate --yes --snapshot --setactivationskip n --permission r --name snap /dev/pve/vm-100-disk-0", `Logical volume "snap" created.`},
		{"lvremove -y pve/snap", `Logical volume "snap" successfully removed.`},
		{"lvchange -ay pve/vm-100-disk-0", ""},
	} {
		printed := strings.Join(strings.Fields(run(t, "lvm", strings.Fields(c.command)...)), " ")
		if !strings.Contains(printed, c.printed) {
			t.Errorf("%s printed %q, not %q", c.command, printed, c.printed)
		}
	}
}
