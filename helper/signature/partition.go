package signature

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Partition is the PARTUUID of partition number of a disk, which begins at byte
// start. It is empty when the table has no such partition: the kernel may know
// another one.
func Partition(r io.ReaderAt, size int64, sector, number int, start int64) string {
	d := open(r, size)
	if header, unit, ok := d.gpt(sector); ok {
		entry := d.entry(header, unit, number)
		if first := binary.LittleEndian.Uint64(field(entry, 32, 8)); first == 0 || first != uint64(start/unit) {
			return ""
		}
		return guid(field(entry, 16, 16))
	}
	mbr, _, ok := d.mbr()
	if !ok || number < 1 || u32(mbr, 440) == 0 {
		return ""
	}
	// Logical partitions, from 5 on, are numbered by the kernel alone.
	unit := int64(max(sector, 512))
	if number <= 4 && int64(u32(mbr, 446+16*(number-1)+8)) != start/unit {
		return ""
	}
	return fmt.Sprintf("%08x-%02x", u32(mbr, 440), number)
}

// entry is the one of a partition in a GPT.
func (d *disk) entry(header []byte, unit int64, number int) []byte {
	at, count, size := binary.LittleEndian.Uint64(field(header, 72, 8)), u32(header, 80), u32(header, 84)
	if number < 1 || uint32(number) > count || count > 1024 || size < 128 || size > 4096 || at > uint64(d.size/unit) {
		return nil
	}
	return d.bytes(int64(at)*unit+int64(number-1)*int64(size), 128)
}
