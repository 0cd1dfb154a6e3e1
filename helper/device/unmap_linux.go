package device

import (
	"os"
	"path/filepath"
	"strings"
)

// unmapUnit is the number of bytes that a discard frees at once, for a SCSI disk, or a partition of one, that promises
// that they are zero then, and of which the kernel makes no use of this when it zeroes. It is 0 for all others.
func (k kernel) unmapUnit(id string) int64 {
	n, ok := deviceNumber(id)
	dir, err := k.dir(n)
	if !ok || err != nil {
		return 0
	}
	disk := dir
	if isPartition(dir) {
		disk = filepath.Dir(dir)
	}
	drivers, _ := filepath.Glob(filepath.Join(disk, "device/scsi_disk/*"))
	if len(drivers) != 1 || text(drivers[0], "provisioning_mode") != "unmap" || strings.HasSuffix(text(drivers[0], "zeroing_mode"), "_unmap") {
		return 0
	}
	page, err := os.ReadFile(filepath.Join(disk, "device/vpd_pgb2")) // Logical Block Provisioning
	if err != nil || !unmapsToZeros(page) || integer(dir, "discard_alignment") != 0 || integer(disk, "queue/discard_max_bytes") == 0 {
		return 0
	}
	// Pages that the unit shared with others would be zeroed in memory alone.
	unit, least := integer(disk, "queue/discard_granularity"), int64(os.Getpagesize())
	switch {
	case unit <= 0:
		return 0
	case unit < least && least%unit == 0:
		return least
	case unit%least == 0:
		return unit
	}
	return 0
}

// unmapsToZeros reads what a disk says of its provisioning (SBC-4, 6.6.7): LBPU, that it knows UNMAP, and in LBPRZ what
// is read then.
func unmapsToZeros(page []byte) bool {
	return len(page) > 5 && page[1] == 0xb2 && page[5]&0x80 != 0 && page[5]>>2&7 == 1
}
