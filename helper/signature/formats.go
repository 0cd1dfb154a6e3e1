package signature

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// superblock is how much of one is looked at, in bytes.
const superblock = 4096

// format is something with a mark at a fixed place. Offsets are from the start
// of the superblock.
type format struct {
	name   string
	at     int64  // of the superblock; from the end of the disk when negative
	offset int    // of the mark
	mark   string //
	uuid   int    // of the 16 bytes, 0 for none
	label  int    // 0 for none
	length int    // of the label
	// detail corrects what was found, or says that it is something else.
	detail func(sb []byte, f *Found) bool
}

// formats have the offsets of their specifications and of the kernel's headers.
var formats = []format{
	{name: "ext2", at: 1024, offset: 56, mark: "\x53\xef", uuid: 104, label: 120, length: 16, detail: ext},
	{name: "xfs", mark: "XFSB", uuid: 32, label: 108, length: 12},
	{name: "btrfs", at: 64 << 10, offset: 64, mark: "_BHRfS_M", uuid: 32, label: 299, length: 256},
	{name: "vfat", offset: 82, mark: "FAT32   ", detail: fat(67, 71)},
	{name: "vfat", offset: 54, mark: "FAT16   ", detail: fat(39, 43)},
	{name: "vfat", offset: 54, mark: "FAT12   ", detail: fat(39, 43)},
	{name: "exfat", offset: 3, mark: "EXFAT   ", detail: serial(100)},
	{name: "ntfs", offset: 3, mark: "NTFS    ", detail: ntfs},
	{name: "ReFS", offset: 3, mark: "ReFS\x00\x00\x00\x00"},
	{name: "BitLocker", offset: 3, mark: "-FVE-FS-"},
	{name: "f2fs", at: 1024, mark: "\x10\x20\xf5\xf2", uuid: 108, detail: wide(124, 512)},
	{name: "erofs", at: 1024, mark: "\xe2\xe1\xf5\xe0", uuid: 48, label: 64, length: 16},
	{name: "jfs", at: 32 << 10, mark: "JFS1", uuid: 136, label: 152, length: 16},
	{name: "reiserfs", at: 64 << 10, offset: 52, mark: "ReIsEr", uuid: 84, label: 100, length: 16},
	{name: "nilfs2", at: 1024, offset: 6, mark: "\x34\x34", uuid: 152, label: 168, length: 80, detail: nilfs},
	{name: "ocfs2", at: 8 << 10, mark: "OCFSV2", uuid: 400, label: 336, length: 64},
	{name: "gfs2", at: 64 << 10, mark: "\x01\x16\x19\x70\x00\x00\x00\x01", uuid: 256, label: 160, length: 64},
	{name: "apfs", offset: 32, mark: "NXSB", uuid: 72},
	{name: "hfsplus", at: 1024, mark: "H+\x00\x04"},
	{name: "squashfs", mark: "hsqs"},
	{name: "iso9660", at: 32 << 10, mark: "\x01CD001\x01", label: 40, length: 32, detail: iso},

	{name: "crypto_LUKS", mark: "LUKS\xba\xbe", detail: luks},
	{name: "bcache", at: 4096, offset: 24, mark: "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", uuid: 40, label: 72, length: 32},
	{name: "bcachefs", at: 4096, offset: 24, mark: "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", uuid: 56, label: 72, length: 32},
	{name: "vdo", mark: "dmvdo001", uuid: 56},
	{name: "ceph_bluestore", mark: "bluestore block device"},
	{name: "DM_snapshot_cow", mark: "SnAp"},
	{name: "drbd", at: -4096, offset: 60, mark: "\x83\x74\x02", detail: drbd},
	{name: "linux_raid_member", mark: "\xfc\x4e\x2b\xa9\x01\x00\x00\x00", uuid: 16, label: 32, length: 32},
	{name: "linux_raid_member", at: 4096, mark: "\xfc\x4e\x2b\xa9\x01\x00\x00\x00", uuid: 16, label: 32, length: 32},
}

// read recognises the format in its superblock.
func (f format) read(sb []byte) (Found, bool) {
	if !has(sb, f.offset, f.mark) {
		return Found{}, false
	}
	found := Found{Type: f.name}
	if f.uuid > 0 {
		found.UUID = uuid(field(sb, f.uuid, 16))
	}
	if f.label > 0 {
		found.Label = Text(field(sb, f.label, f.length))
	}
	return found, f.detail == nil || f.detail(sb, &found)
}

// ext tells the members of the family by what only the younger ones can.
func ext(sb []byte, f *Found) bool {
	const (
		compatJournal    = 0x4
		incompatJournal  = 0x8               // the device is the journal of another one
		incompatOfExt3   = 0x2 | 0x4 | 0x10  // file types, recovery, meta block groups
		roCompatOfExt3   = 0x1 | 0x2 | 0x4   // sparse superblocks, large files, trees
		incompatOfExtAll = 0xffffffff &^ 0x8 //
	)
	compat, incompat, roCompat := u32(sb, 92), u32(sb, 96), u32(sb, 100)
	switch {
	case incompat&incompatJournal != 0:
		f.Type = "jbd"
	case incompat&incompatOfExtAll&^incompatOfExt3 != 0, roCompat&^roCompatOfExt3 != 0:
		f.Type = "ext4"
	case compat&compatJournal != 0:
		f.Type = "ext3"
	}
	return true
}

// fat reads a boot sector of FAT. Its marks are weak, so its numbers must make
// sense too.
func fat(serialAt, labelAt int) func(sb []byte, f *Found) bool {
	return func(sb []byte, f *Found) bool {
		sector, cluster, media := u16(sb, 11), int(field(sb, 13, 1)[0]), field(sb, 21, 1)[0]
		if !has(sb, 510, "\x55\xaa") || !powerOfTwo(int(sector)) || sector < 512 || !powerOfTwo(cluster) ||
			u16(sb, 14) == 0 || field(sb, 16, 1)[0] == 0 || media < 0xf0 {
			return false
		}
		if label := Text(field(sb, labelAt, 11)); label != "NO NAME" {
			f.Label = label
		}
		return serial(serialAt)(sb, f)
	}
}

func powerOfTwo(n int) bool { return n > 0 && n&(n-1) == 0 }

// serial takes a number of 32 bits for the UUID, written as DOS does.
func serial(at int) func(sb []byte, f *Found) bool {
	return func(sb []byte, f *Found) bool {
		if n := u32(sb, at); n != 0 {
			f.UUID = fmt.Sprintf("%04X-%04X", n>>16, n&0xffff)
		}
		return true
	}
}

func ntfs(sb []byte, f *Found) bool {
	f.UUID = fmt.Sprintf("%016X", binary.LittleEndian.Uint64(field(sb, 72, 8)))
	return has(sb, 510, "\x55\xaa")
}

// nilfs has a weak mark: its version and the length of its superblock must fit.
func nilfs(sb []byte, _ *Found) bool {
	n := u16(sb, 8)
	return u32(sb, 0) == 2 && n > 0 && n <= 1024
}

// wide reads a label in UTF-16.
func wide(at, n int) func(sb []byte, f *Found) bool {
	return func(sb []byte, f *Found) bool {
		var units []uint16
		for b := field(sb, at, n*2); len(b) > 1 && (b[0] != 0 || b[1] != 0); b = b[2:] {
			units = append(units, binary.LittleEndian.Uint16(b))
		}
		f.Label = Text([]byte(string(utf16.Decode(units))))
		return true
	}
}

// iso takes the time of the last change for the UUID, or that of the making.
func iso(sb []byte, f *Found) bool {
	for _, at := range []int{830, 813} {
		date := Text(field(sb, at, 16))
		if len(date) == 16 && strings.Trim(date, "0") != "" {
			f.UUID = group(date, 4, 2, 2, 2, 2, 2, 2)
			return true
		}
	}
	return true
}

func luks(sb []byte, f *Found) bool {
	f.UUID = Text(field(sb, 168, 40))
	if version := binary.BigEndian.Uint16(field(sb, 6, 2)); version == 2 {
		f.Label = Text(field(sb, 24, 48))
	}
	return true
}

// drbd keeps its data at the very end. The last byte of the mark tells the
// version, and whether it is clean.
func drbd(sb []byte, f *Found) bool {
	version := field(sb, 63, 1)[0]
	at := 40
	if version == 0x6d {
		at = 48
	}
	f.UUID = fmt.Sprintf("%x", binary.BigEndian.Uint64(field(sb, at, 8)))
	return version >= 0x6b && version <= 0x6d
}

func u16(b []byte, off int) uint16 { return binary.LittleEndian.Uint16(field(b, off, 2)) }

func u32(b []byte, off int) uint32 { return binary.LittleEndian.Uint32(field(b, off, 4)) }
