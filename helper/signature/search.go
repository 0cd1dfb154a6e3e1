package signature

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
)

// searches look for what has its mark at one of several places.
var searches = []func(d *disk) (Found, bool){lvm, swap, raid, zfs}

// lvm is in one of the first four sectors.
func lvm(d *disk) (Found, bool) {
	for at := int64(0); at < 4*512; at += 512 {
		label := d.bytes(at, 512)
		if has(label, 0, "LABELONE") && has(label, 24, "LVM2 001") {
			id := field(label, int(min(u32(label, 20), 512)), 32)
			return Found{Type: "LVM2_member", UUID: LVM(Text(id))}, true
		}
	}
	return Found{}, false
}

// LVM writes the 32 characters of a UUID of LVM as its tools do. What is not one
// is empty.
func LVM(id string) string {
	if len(id) != 32 {
		return ""
	}
	return group(id, 6, 4, 4, 4, 4, 4, 6)
}

// swap has its mark at the end of the first page, whose size depends on the
// machine.
func swap(d *disk) (Found, bool) {
	for _, page := range []int64{4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		mark := d.bytes(page-10, 10)
		switch {
		case has(mark, 0, "SWAPSPACE2"):
			sb := d.bytes(1024, 44)
			return Found{Type: "swap", UUID: uuid(field(sb, 12, 16)), Label: Text(field(sb, 28, 16))}, true
		case has(mark, 0, "SWAP-SPACE"):
			return Found{Type: "swap"}, true
		case has(mark, 0, "S1SUSPEND"), has(mark, 0, "S2SUSPEND"), has(mark, 0, "ULSUSPEND"), has(mark, 0, "LINHIB0001"):
			return Found{Type: "swsuspend"}, true
		}
	}
	return Found{}, false
}

// raid finds the formats of Linux's software RAID that are at the end; the others
// are in the table.
func raid(d *disk) (Found, bool) {
	const magic = "\xfc\x4e\x2b\xa9"
	if sb := d.bytes((d.size-8<<10)&^0xfff, superblock); has(sb, 0, magic+"\x01\x00\x00\x00") {
		return Found{Type: "linux_raid_member", UUID: uuid(field(sb, 16, 16)), Label: Text(field(sb, 32, 32))}, true
	}
	sb := d.bytes(d.size&^0xffff-64<<10, superblock)
	if !has(sb, 0, magic) || u32(sb, 4) != 0 {
		return Found{}, false
	}
	var id []byte
	for _, at := range []int{20, 52, 56, 60} {
		id = binary.BigEndian.AppendUint32(id, u32(sb, at))
	}
	return Found{Type: "linux_raid_member", UUID: uuid(id)}, true
}

// zfs has a ring of small blocks behind a list of properties in its first label.
func zfs(d *disk) (Found, bool) {
	ring := d.bytes(128<<10, 128<<10)
	for at := 0; at < len(ring); at += 1024 {
		if has(ring, at, "\x0c\xb1\xba\x00\x00\x00\x00\x00") || has(ring, at, "\x00\x00\x00\x00\x00\xba\xb1\x0c") {
			f := Found{Type: "zfs_member"}
			list := d.bytes(16<<10, 112<<10)
			if guid := property(list, "pool_guid", 8); len(guid) >= 8 {
				f.UUID = strconv.FormatUint(binary.BigEndian.Uint64(guid), 10)
			}
			if name := property(list, "name", 9); len(name) > 4 {
				n := binary.BigEndian.Uint32(name)
				f.Label = Text(name[4 : 4+min(uint64(n), uint64(len(name)-4), 256)])
			}
			return f, true
		}
	}
	return Found{}, false
}

// property is what follows the head of a property in a list of ZFS: its name with
// the length before, padded to four bytes, its type and the number of elements.
func property(list []byte, name string, kind uint32) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	head = append(head, name...)
	head = append(head, make([]byte, -len(name)&3)...)
	head = binary.BigEndian.AppendUint32(head, kind)
	head = binary.BigEndian.AppendUint32(head, 1)
	_, rest, _ := bytes.Cut(list, head)
	return rest
}

// tables finds partition tables. Of a GPT either copy will do.
func (d *disk) tables(sector int) []Found {
	if gpt, _, ok := d.gpt(sector); ok {
		return []Found{{Type: "gpt", UUID: guid(field(gpt, 56, 16)), Table: true}}
	}
	if mbr, _, ok := d.mbr(); ok {
		f := Found{Type: "dos", Table: true}
		if id := u32(mbr, 440); id != 0 {
			f.UUID = fmt.Sprintf("%08x", id)
		}
		return []Found{f}
	}
	return nil
}

// gpt is the header of a GUID partition table and the size of a sector in it. One
// that a table of DOS has replaced does not count.
func (d *disk) gpt(sector int) (header []byte, size int64, ok bool) {
	if _, protective, ok := d.mbr(); ok && !protective {
		return nil, 0, false
	}
	sizes := []int64{512, 4096}
	if sector > 0 {
		sizes = []int64{int64(sector)}
	}
	for _, size := range sizes {
		for _, at := range []int64{size, d.size/size*size - size} {
			if header := d.bytes(at, 512); has(header, 0, "EFI PART") {
				return header, size, true
			}
		}
	}
	return nil, 0, false
}

// mbr is the first sector when it is a partition table of DOS; a protective one
// is there for a GPT. The boot sectors of file systems end in the same mark.
func (d *disk) mbr() (sector []byte, protective, ok bool) {
	sector = d.bytes(0, 512)
	if !has(sector, 510, "\x55\xaa") {
		return nil, false, false
	}
	for _, f := range formats {
		if f.at == 0 {
			if _, other := f.read(sector); other {
				return nil, false, false
			}
		}
	}
	used := false
	for at := 446; at < 510; at += 16 {
		if sector[at]&0x7f != 0 {
			return nil, false, false
		}
		used = used || sector[at+4] != 0 && u32(sector, at+12) != 0
		protective = protective || sector[at+4] == 0xee
	}
	return sector, protective, used
}

// guid is the text of a UUID as GPT stores it: its first three parts are little
// endian.
func guid(b []byte) string {
	b = bytes.Clone(b)
	for _, part := range [][]byte{b[0:4], b[4:6], b[6:8]} {
		for i, j := 0, len(part)-1; i < j; i, j = i+1, j-1 {
			part[i], part[j] = part[j], part[i]
		}
	}
	return uuid(b)
}
