package blockdev

import (
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// snapshotChoices are the values of the option snapshot, in the order of the wire.
type snapshotChoices struct{}

func (snapshotChoices) Choices() []string {
	return []string{wire.SnapshotNone: "off", wire.SnapshotLVM: "lvm", wire.SnapshotLVMThin: "lvm-thin", wire.SnapshotZFS: "zfs",
		wire.SnapshotReflink: "btrfs-file", wire.SnapshotCommand: "command"}
}

func (snapshotChoices) Type() string { return "off|lvm|lvm-thin|zfs|btrfs-file|command" }

// Snapshotting is the option snapshot.
type Snapshotting = fs.Enum[snapshotChoices]

// Surroundings are the options for what is done on a host around a transfer.
type Surroundings struct {
	Snapshot        Snapshotting    `config:"snapshot"`
	SnapshotSize    string          `config:"snapshot_size"`
	SnapshotFreeze  fs.CommaSepList `config:"snapshot_freeze"`
	FreezeTimeout   fs.Duration     `config:"freeze_timeout"`
	SnapshotGroup   fs.CommaSepList `config:"snapshot_group"`
	SnapshotCommand fs.SpaceSepList `config:"snapshot_command"`
	SnapshotRemove  fs.SpaceSepList `config:"snapshot_remove_command"`
	BeforeRead      fs.SpaceSepList `config:"before_read"`
	AfterRead       fs.SpaceSepList `config:"after_read"`
	BeforeWrite     fs.SpaceSepList `config:"before_write"`
	AfterWrite      fs.SpaceSepList `config:"after_write"`
}

func surroundingsOptions() []fs.Option {
	return append(snapshotOptions(), hookOptions()...)
}

func snapshotOptions() []fs.Option {
	return []fs.Option{{
		Name:    "snapshot",
		Default: Snapshotting(wire.SnapshotNone),
		Help: `Take a snapshot on the host before something is read, and read that.

What is in use is then copied as it was at one moment. The snapshot is removed
when it was read, and whatever else happens, see docs/live.md. The object keeps
its name and size. The helper needs root for it, see sudo.`,
		Examples: []fs.OptionExample{
			{Value: "off", Help: "Read what is there."},
			{Value: "lvm", Help: "Of a logical volume, see snapshot_size."},
			{Value: "lvm-thin", Help: "Of a thin volume, in its pool."},
			{Value: "zfs", Help: "Of a volume of ZFS."},
			{Value: "btrfs-file", Help: "A clone of an image file on Btrfs, or XFS with reflink."},
			{Value: "command", Help: "By snapshot_command."},
		},
		Advanced: true,
	}, {
		Name: "snapshot_size",
		Help: `Space for what changes while a snapshot of the kind lvm exists.

A size as in 10Gi, or a percentage of the volume. It is taken from the volume
group. When more is written to the volume than fits, the transfer fails and says
so. Leave blank for 20%.

E.g. "10Gi".`,
		Advanced: true,
	}, {
		Name:    "snapshot_freeze",
		Default: fs.CommaSepList{},
		Help: `Mountpoints to freeze while the snapshot is taken.

Comma separated. Programs that write there wait meanwhile. A file system on the
one volume that LVM takes a snapshot of is frozen by LVM in any case.

E.g. "/srv/data".`,
		Advanced: true,
	}, {
		Name:    "freeze_timeout",
		Default: fs.Duration(10 * time.Second),
		Help: `How long file systems may be frozen.

After that they are thawed whatever happens, and the transfer fails when its
snapshot was not taken by then.`,
		Advanced: true,
	}, {
		Name:    "snapshot_group",
		Default: fs.CommaSepList{},
		Help: `Paths on the host of which snapshots are taken at one moment.

Comma separated, as they are on the host. Before the first of them is read, the
file systems of snapshot_freeze are frozen, snapshots of all are taken, and they
are thawed. With several disks of one guest the copies belong together then.

E.g. "/dev/vg0/vm-root,/dev/vg0/vm-data".`,
		Advanced: true,
	}, {
		Name:    "snapshot_command",
		Default: fs.SpaceSepList{},
		Help: `Program with arguments that takes a snapshot, for snapshot = command.

It runs on the host, without a shell, with BLOCKDEV_PATH and BLOCKDEV_SNAPSHOT (a
name that is not taken yet) in its environment, and prints in its last line the
device or file to read. Arguments with spaces in should be surrounded by "double
quotes".

E.g. "/usr/local/sbin/rbd-snapshot take".`,
		Advanced: true,
	}, {
		Name:    "snapshot_remove_command",
		Default: fs.SpaceSepList{},
		Help: `Program with arguments that removes what snapshot_command has made.

It has BLOCKDEV_DEVICE, the device that was printed, in its environment as well. It
must succeed when there is nothing to remove.`,
		Advanced: true,
	}}
}

func hookOptions() []fs.Option {
	hook := func(name, when, more string) fs.Option {
		return fs.Option{
			Name:    name,
			Default: fs.SpaceSepList{},
			Help: `Program with arguments to run on the host ` + when + `.

It runs without a shell, with BLOCKDEV_PATH, BLOCKDEV_IDENTITY and BLOCKDEV_HOOK in
its environment. What it prints gets into the log. ` + more + `
Arguments with spaces in should be surrounded by "double quotes".`,
			Advanced: true,
		}
	}
	const fails = "When it fails, nothing is done."
	const always = "It runs in any case,\nwith BLOCKDEV_OUTCOME set to success, failed, or lost when rclone did not come back."
	return []fs.Option{
		hook("before_read", "before something is read", fails),
		hook("after_read", "after something was read", always),
		hook("before_write", "before something is written", fails),
		hook("after_write", "after something was written", always),
	}
}
