package blockdev

import (
	"context"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// fact is something that a host knows of an object, without reading it. The
// helper says all values as text.
type fact struct {
	key     string
	help    string
	kind    factKind
	example string
	state   bool // of the moment or the place, so it is no metadata of the object
}

type factKind string

const (
	factText   factKind = "string"
	factNumber factKind = "int"
	factFlag   factKind = "boolean"
	factTime   factKind = "RFC 3339"
	factList   factKind = "list of strings"
)

// facts are all that the helpers of this release know.
var facts = []fact{
	{"kind", "What it is: device, file or directory", factText, "device", true},
	{"path", "Its path on the host, without symlinks", factText, "/dev/sda", true},
	{"number", "Number of the device, major:minor", factText, "8:0", true},
	{"size", "Size in bytes", factNumber, "1000204886016", true},
	{"allocated", "Space that an image file takes on its disk, in bytes", factNumber, "10737418240", true},
	{"mtime", "Modification time of an image file", factTime, "2006-01-02T15:04:05.999999999Z07:00", false},
	{"vendor", "Vendor of the disk", factText, "SEAGATE", false},
	{"model", "Model of the disk", factText, "Samsung SSD 870 EVO 1TB", false},
	{"serial", "Serial number of the disk", factText, "S5Y1NX0R123456", false},
	{"wwn", "World wide name, or another worldwide unique name, of the disk", factText, "0x5002538f31234567", false},
	{"bus", "How the disk is connected, as udev says", factText, "ata", false},
	{"partition-of", "Disk that the device is a partition of", factText, "sda", true},
	{"partition-table", "Type of the partition table, as udev says", factText, "gpt", false},
	{"dm-name", "Name that the device mapper has for it", factText, "vg0-mail", false},
	{"dm-uuid", "UUID that the device mapper has for it", factText, "LVM-abcDEF", false},
	{"logical-sector-size", "Bytes of the smallest unit that can be addressed", factNumber, "512", false},
	{"physical-sector-size", "Bytes of the smallest unit that is written at once", factNumber, "4096", false},
	{"optimal-io-size", "Bytes of the unit that the disk prefers, 0 for none", factNumber, "65536", false},
	{"discard", "Unused ranges can be discarded", factFlag, "true", false},
	{"discard-granularity", "Bytes of the unit of discarding", factNumber, "4096", false},
	{"discard-max", "Bytes that can be discarded at once, 0 for none", factNumber, "2147450880", false},
	{"write-zeroes-max", "Bytes that the disk can zero by itself at once, 0 for none", factNumber, "65536", false},
	{"thin", "It takes space only for what was written; left out where that is not known", factFlag, "false", false},
	{"rotational", "A disk with moving heads", factFlag, "true", false},
	{"removable", "Its medium can be removed", factFlag, "false", false},
	{"read-only", "It refuses writes", factFlag, "false", false},
	{"holder", "Devices that are built on it or on one of its partitions", factList, "dm-0", true},
	{"mount", "Where it or one of its partitions is mounted", factList, "/srv", true},
	{"ids", "Identities: any of them may be the value of the option expect_id", factList, "serial=S5Y1NX0R123456", true},
	{contentKey, "What is on it: partition table, file system and the like", factList, "ext4 \"root\" 0123-...", true},
	{"in-use", "Why writing to it would be refused, as far as the host tells", factList, "it is mounted at /srv", true},
}

// metadataInfo documents the facts that are metadata of an object.
func metadataInfo() *fs.MetadataInfo {
	info := &fs.MetadataInfo{
		System: map[string]fs.MetadataHelp{},
		Help: `Metadata is what the host knows of a device or image file. It is read-only, and
what a host does not tell is left out: image files have a modification time only,
and systems other than Linux tell no more of a device than its sector size and
whether it can be written.`,
	}
	for _, f := range facts {
		if !f.state {
			info.System[f.key] = fs.MetadataHelp{Help: f.help, Type: string(f.kind), Example: f.example, ReadOnly: true}
		}
	}
	return info
}

// Metadata is what the host knows of the object. It is asked each time.
func (o *Object) Metadata(ctx context.Context) (fs.Metadata, error) {
	at, err := o.fs.place(o.remote)
	if err != nil {
		return nil, err
	}
	found, err := describe(ctx, at, false)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, p := range found {
		values[p.Key] = p.Value
	}
	metadata := fs.Metadata{}
	for _, f := range facts {
		if v, ok := values[f.key]; ok && !f.state {
			metadata[f.key] = v
		}
	}
	return metadata, nil
}

// describe asks for all that is known of what is at p, which is opened only to look
// what is on it.
func describe(ctx context.Context, p place, look bool) (found []wire.Property, err error) {
	err = p.with(ctx, func(s *host.Session) error {
		found, err = s.Describe(ctx, p.path, look)
		return err
	})
	return found, err
}

// values are properties as JSON has them.
func values(found []wire.Property) map[string]any {
	all := make([]device.Property, len(found))
	for i, p := range found {
		all[i] = device.Property(p)
	}
	return device.Values(all)
}

var _ fs.Metadataer = (*Object)(nil)
