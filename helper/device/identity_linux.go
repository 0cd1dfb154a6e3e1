package device

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/helper/signature"
)

// lastingIDs are the identities of a device that a copy does not change. With look
// the disk of a partition may be opened for its table.
func lastingIDs(info Info, look bool) []string {
	n, ok := deviceNumber(info.ID)
	if !ok {
		return nil
	}
	return host.identities(n, look)
}

// identities asks the kernel alone: links of udev may be stale or missing, and what
// udev has stored may be of the disk before.
func (k kernel) identities(n number, look bool) (ids []string) {
	dir, err := k.dir(n)
	if err != nil {
		return nil
	}
	disk := dir
	if isPartition(dir) {
		disk = filepath.Dir(dir)
		ids = addID(ids, "partuuid", k.partUUID(dir, look))
	}
	for _, file := range []string{"serial", "device/serial"} {
		ids = addID(ids, "serial", text(disk, file))
	}
	ids = addID(ids, "serial", unitSerial(disk))
	ids = addID(ids, "wwn", worldWideName(disk))
	dm := text(disk, "dm/uuid")
	ids = addID(ids, "dm-uuid", dm)
	if both, ok := strings.CutPrefix(dm, "LVM-"); ok && len(both) >= 64 { // of the group and of the volume
		ids = addID(ids, "lv-uuid", signature.LVM(both[32:64]))
	}
	ids = addID(ids, "md-uuid", text(disk, "md/uuid"))
	return addID(ids, "file", text(disk, "loop/backing_file"))
}

// partUUID is that of the partition with this sysfs directory: as recent kernels
// tell it, or as it is in the table.
func (k kernel) partUUID(dir string, look bool) string {
	for line := range lines(filepath.Join(dir, "uevent")) {
		if id, ok := strings.CutPrefix(line, "PARTUUID="); ok {
			return id
		}
	}
	if !look {
		return ""
	}
	disk := filepath.Dir(dir)
	f := openNode(disk)
	if f == nil {
		return ""
	}
	defer f.Close()
	sector := int(max(512, integer(disk, "queue/logical_block_size")))
	return strings.ToLower(signature.Partition(f, integer(disk, "size")*512, sector, int(integer(dir, "partition")), integer(dir, "start")*512))
}

// openNode opens the device with this sysfs directory for reading, or nothing when
// the node of that name is another device.
func openNode(dir string) *os.File {
	for line := range lines(filepath.Join(dir, "uevent")) {
		name, ok := strings.CutPrefix(line, "DEVNAME=")
		if !ok {
			continue
		}
		f, err := os.Open(filepath.Join("/dev", name))
		if err != nil {
			return nil
		}
		fi, err := f.Stat()
		if st, isStat := fi.Sys().(*syscall.Stat_t); err == nil && isStat && numberOf(uint64(st.Rdev)).String() == text(dir, "dev") {
			return f
		}
		f.Close()
		return nil
	}
	return nil
}

// RereadPartitions has the kernel read the partition table of a disk again, now
// that it was written, and says what came of it. It is tried for a second: who
// watches devices may have one of the partitions open for a moment.
func (o *Object) RereadPartitions() string {
	var no syscall.Errno
	for range 10 {
		_ = withFD(o.f, func(fd uintptr) error {
			_, _, no = unix.Syscall(unix.SYS_IOCTL, fd, unix.BLKRRPART, 0)
			return nil
		})
		if no != unix.EBUSY {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	switch no {
	case 0:
	case unix.EINVAL, unix.ENOTTY:
		return o.path + ": has no partitions of its own, so no table was read again: it is a partition or volume, or a loop device without --partscan"
	case unix.EBUSY:
		return noPartitions(o.path, fmt.Errorf("one of its partitions is in use: end that and run partprobe, or boot again"))
	default:
		return noPartitions(o.path, no)
	}
	var names []string
	n, _ := deviceNumber(o.info.ID)
	if dir, err := host.dir(n); err == nil {
		for _, p := range partitions(dir) {
			names = append(names, filepath.Base(p))
		}
	}
	return fmt.Sprintf("%s: the kernel has read its partition table again: partitions %s", o.path, list(names))
}
