package device

import (
	"cmp"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// system adds what Linux tells of the object.
func (p properties) system(info Info) []Property {
	if info.Kind == Block {
		host.device(&p, info.ID)
	}
	for _, u := range host.uses(info.ID) {
		p.text("in-use", u.String())
	}
	return p
}

// device adds what is known of the device with this ID.
func (k kernel) device(p *properties, id string) {
	n, _ := deviceNumber(id)
	dir, err := k.dir(n)
	if err != nil {
		return
	}
	p.text("number", n.String())
	disk := dir
	if isPartition(dir) {
		disk = filepath.Dir(dir)
		p.text("partition-of", filepath.Base(disk))
	}
	k.make(p, disk)
	p.text("partition-table", k.udev(dir)["ID_PART_TABLE_TYPE"])
	p.text("dm-name", text(dir, "dm/name"))
	p.text("dm-uuid", text(dir, "dm/uuid"))
	limits(p, disk)
	if thin, known := k.isThin(disk); known {
		p.flag("thin", thin)
	}
	for _, part := range append([]string{dir}, partitions(dir)...) {
		for _, h := range holders(part) {
			p.text("holder", filepath.Base(h))
		}
	}
	for _, part := range append([]string{dir}, partitions(dir)...) {
		for _, m := range k.mountsOf("b:" + text(part, "dev")) {
			p.text("mount", m.point)
		}
	}
}

// make adds what the maker of a disk calls it. The kernel cuts the model of some
// disks, which udev has asked for again. Of SCSI disks the short serial of udev
// is the world wide name once more.
func (k kernel) make(p *properties, disk string) {
	udev := k.udev(disk)
	if vendor := text(disk, "device/vendor"); vendor != "ATA" && !strings.HasPrefix(vendor, "0x") {
		p.text("vendor", vendor)
	}
	p.text("model", cmp.Or(strings.TrimSpace(unhex(udev["ID_MODEL_ENC"])), text(disk, "device/model")))
	p.text("serial", cmp.Or(udev["ID_SCSI_SERIAL"], udev["ID_SERIAL_SHORT"], text(disk, "serial"), text(disk, "device/serial"), unitSerial(disk)))
	p.text("wwn", cmp.Or(udev["ID_WWN_WITH_EXTENSION"], udev["ID_WWN"], worldWideName(disk)))
	p.text("bus", udev["ID_BUS"])
}

// worldWideName is what the kernel knows, written as udev does.
func worldWideName(disk string) string {
	id := cmp.Or(text(disk, "wwid"), text(disk, "device/wwid"))
	if naa, ok := strings.CutPrefix(id, "naa."); ok {
		return "0x" + naa
	}
	return id
}

// unitSerial is the serial number in the page of a SCSI disk that has nothing else:
// a header of four bytes, of which the last two are the length, and text.
func unitSerial(disk string) string {
	page, err := os.ReadFile(filepath.Join(disk, "device/vpd_pg80"))
	if err != nil || len(page) < 4 || page[1] != 0x80 {
		return ""
	}
	serial := page[4:min(len(page), 4+int(binary.BigEndian.Uint16(page[2:])))]
	return strings.Trim(string(serial), " \x00")
}

// limits adds the sizes, in bytes, in which a disk works.
func limits(p *properties, disk string) {
	for _, f := range []struct{ key, file string }{
		{"physical-sector-size", "physical_block_size"},
		{"optimal-io-size", "optimal_io_size"},
		{"discard-granularity", "discard_granularity"},
		{"discard-max", "discard_max_bytes"},
		{"write-zeroes-max", "write_zeroes_max_bytes"},
	} {
		p.text(f.key, text(disk, "queue", f.file))
	}
	p.flag("discard", integer(disk, "queue/discard_max_bytes") > 0)
	p.flag("removable", integer(disk, "removable") != 0)
}

// isThin tells whether a disk takes space only for what was written, where that
// can be told: of volumes on a thin pool, of VDO, and of disks that say so.
func (k kernel) isThin(disk string) (thin, known bool) {
	if _, thin := k.thinTable(disk); thin {
		return true, true
	}
	if strings.HasPrefix(text(disk, "dm/uuid"), "VDO-") {
		return true, true
	}
	says, _ := filepath.Glob(filepath.Join(disk, "device/scsi_disk/*/thin_provisioning"))
	return len(says) > 0 && integer(says[0]) != 0, len(says) > 0
}

// udev is what udev has stored of the device with this sysfs directory.
func (k kernel) udev(dir string) map[string]string {
	found := map[string]string{}
	for line := range lines(filepath.Join(k.run, "udev/data", "b"+text(dir, "dev"))) {
		if key, value, ok := strings.Cut(strings.TrimPrefix(line, "E:"), "="); ok && strings.HasPrefix(line, "E:") {
			found[key] = value
		}
	}
	return found
}

// unhex undoes the \x20 by which udev writes blanks.
func unhex(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if strings.HasPrefix(s[i:], `\x`) && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountsOf are the mounts right on the object with this ID.
func (k kernel) mountsOf(id string) []mount {
	return slices.DeleteFunc(k.mounts(), func(m mount) bool {
		return "b:"+m.number.String() != id && (!strings.HasPrefix(m.source, "/dev/") || idOf(m.source) != id)
	})
}
