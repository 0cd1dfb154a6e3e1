package signature

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

const mib = 1 << 20

// image makes a sparse file of size bytes with those parts in it.
func image(t *testing.T, size int64, parts map[int64]string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for at, part := range parts {
		if _, err := f.WriteAt([]byte(part), at); err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}

// run runs a program of the system on a file.
func run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	path, err := require.Program(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s%s", name, args, err, out, stderr.String())
	}
	return string(out)
}

// look is what is found in a file.
func look(t *testing.T, path string, sector int) []Found {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	return Read(f, size, sector)
}

// blkid is what util-linux finds in a file.
func blkid(t *testing.T, path string) Found {
	t.Helper()
	var f Found
	for line := range strings.Lines(run(t, "", "blkid", "-p", "-o", "export", path)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.ReplaceAll(value, `\ `, " ")
		switch key {
		case "TYPE":
			f.Type = value
		case "UUID", "PTUUID":
			f.UUID = value
		case "LABEL":
			f.Label = value
		case "PTTYPE":
			f.Type, f.Table = value, true
		}
	}
	return f
}

// What the tools of each format make is found, and is what blkid finds.
func TestRead_Blkid(t *testing.T) {
	require.Need(t, require.Blkid)
	for _, c := range []struct {
		name  string
		needs []require.Thing
		size  int64
		make  []string // a command that takes the file as its last argument
		stdin string
	}{
		{"ext2", []require.Thing{require.Mkfs}, 8 * mib, []string{"mkfs.ext4", "-q", "-F", "-t", "ext2", "-L", "my label"}, ""},
		{"ext3", []require.Thing{require.Mkfs}, 8 * mib, []string{"mkfs.ext4", "-q", "-F", "-t", "ext3"}, ""},
		{"ext4", []require.Thing{require.Mkfs}, 8 * mib, []string{"mkfs.ext4", "-q", "-F", "-L", "root"}, ""},
		{"jbd", []require.Thing{require.Mkfs}, 8 * mib, []string{"mkfs.ext4", "-q", "-F", "-O", "journal_dev"}, ""},
		{"xfs", []require.Thing{require.Xfs}, 512 * mib, []string{"mkfs.xfs", "-q", "-f", "-L", "xfs disk"}, ""},
		{"btrfs", []require.Thing{require.Btrfs}, 128 * mib, []string{"mkfs.btrfs", "-q", "-f", "-L", "pool"}, ""},
		{"vfat", []require.Thing{require.Vfat}, 2 * mib, []string{"mkfs.vfat", "-F", "12", "-n", "EFI 12"}, ""},
		{"vfat", []require.Thing{require.Vfat}, 32 * mib, []string{"mkfs.vfat", "-F", "16"}, ""},
		{"vfat", []require.Thing{require.Vfat}, 64 * mib, []string{"mkfs.vfat", "-F", "32", "-n", "EFI"}, ""},
		{"swap", nil, mib, []string{"mkswap", "-L", "swap1"}, ""},
		{"swap", nil, mib, []string{"mkswap", "--pagesize", "65536"}, ""},
		{"gpt", []require.Thing{require.Fdisk}, 8 * mib, []string{"sfdisk", "-q"}, "label: gpt\nsize=1M\nsize=2M\n"},
		{"dos", []require.Thing{require.Fdisk}, 8 * mib, []string{"sfdisk", "-q"}, "label: dos\nsize=1M\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Need(t, c.needs...)
			path := image(t, c.size, nil)
			run(t, c.stdin, c.make[0], append(c.make[1:], path)...)
			want := blkid(t, path)
			if got := look(t, path, 512); len(got) != 1 || got[0] != want || want.Type != c.name {
				t.Errorf("found %+v, blkid %+v", got, want)
			}
		})
	}
}

// uuidA is 16 bytes whose text is known.
const (
	uuidA = "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef"
	textA = "01234567-89ab-cdef-0123-456789abcdef"
)

func zeros(n int) string { return strings.Repeat("\x00", n) }

// pad is s with zeros up to n bytes.
func pad(s string, n int) string { return s + zeros(n-len(s)) }

func le(n uint32) string { return string(binary.LittleEndian.AppendUint32(nil, n)) }

// xdr is a property of a list of ZFS.
func xdr(name, value string, kind byte) string {
	return "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00" + string(rune(len(name))) + pad(name, (len(name)+3)&^3) +
		"\x00\x00\x00" + string(rune(kind)) + "\x00\x00\x00\x01" + value
}

// made are images of what this machine has no tools for. With checked, blkid must
// find the same; the others have no checksums or no content, which it looks at too.
var made = []struct {
	name    string
	size    int64
	parts   map[int64]string
	want    Found
	checked bool
}{
	{"LUKS1", 4 * mib, map[int64]string{0: "LUKS\xba\xbe\x00\x01", 168: textA}, Found{Type: "crypto_LUKS", UUID: textA}, true},
	{"LUKS2", 4 * mib, map[int64]string{0: "LUKS\xba\xbe\x00\x02", 24: "my keys", 168: textA}, Found{Type: "crypto_LUKS", UUID: textA, Label: "my keys"}, true},
	{"LVM", 4 * mib, map[int64]string{512: "LABELONE\x01" + zeros(11) + "\x20\x00\x00\x00LVM2 001" + "abcdefghijklmnopqrstuvwxyzABCDEF"},
		Found{Type: "LVM2_member", UUID: "abcdef-ghij-klmn-opqr-stuv-wxyz-ABCDEF"}, false},
	{"MD1.1", 4 * mib, map[int64]string{0: "\xfc\x4e\x2b\xa9\x01" + zeros(11) + uuidA + "host:0"}, Found{Type: "linux_raid_member", UUID: textA, Label: "host:0"}, true},
	{"MD1.2", 4 * mib, map[int64]string{4096: "\xfc\x4e\x2b\xa9\x01" + zeros(11) + uuidA + "host:0"}, Found{Type: "linux_raid_member", UUID: textA, Label: "host:0"}, false},
	{"MD1.0", 4*mib + 512, map[int64]string{4*mib - 8192: "\xfc\x4e\x2b\xa9\x01" + zeros(11) + uuidA + "host:0"}, Found{Type: "linux_raid_member", UUID: textA, Label: "host:0"}, false},
	{"MD0.90", 4*mib + 512, map[int64]string{4*mib - 65536: "\xfc\x4e\x2b\xa9\x00\x00\x00\x00\x5a" + zeros(11) + "\x67\x45\x23\x01" + zeros(28) + "\xef\xcd\xab\x89\x67\x45\x23\x01\xef\xcd\xab\x89"},
		Found{Type: "linux_raid_member", UUID: textA}, true},
	{"DRBD8", 4 * mib, map[int64]string{4*mib - 4096 + 40: "\x01\x23\x45\x67\x89\xab\xcd\xef", 4*mib - 4096 + 60: "\x83\x74\x02\x6b"}, Found{Type: "drbd", UUID: "123456789abcdef"}, true},
	{"DRBD9", 4 * mib, map[int64]string{4*mib - 4096 + 48: "\x01\x23\x45\x67\x89\xab\xcd\xef", 4*mib - 4096 + 60: "\x83\x74\x02\x6d"}, Found{Type: "drbd", UUID: "123456789abcdef"}, true},
	{"Squashfs", mib, map[int64]string{0: "hsqs" + zeros(24) + "\x04\x00\x00\x00"}, Found{Type: "squashfs"}, true},
	{"ISO", mib, map[int64]string{32768: "\x01CD001\x01", 32768 + 40: "DEBIAN 12           ", 32768 + 830: "2026112609051200\x00"},
		Found{Type: "iso9660", UUID: "2026-11-26-09-05-12-00", Label: "DEBIAN 12"}, true},
	{"Bcache", 4 * mib, map[int64]string{4096 + 24: formats[indexOf("bcache")].mark + uuidA + zeros(16) + "fast"}, Found{Type: "bcache", UUID: textA, Label: "fast"}, false},
	{"F2FS", 16 * mib, map[int64]string{1024: "\x10\x20\xf5\xf2", 1024 + 108: uuidA + "d\x00a\x00t\x00a\x00"}, Found{Type: "f2fs", UUID: textA, Label: "data"}, true},
	{"JFS", 16 * mib, map[int64]string{32768: "JFS1", 32768 + 136: uuidA + "old"}, Found{Type: "jfs", UUID: textA, Label: "old"}, false},
	{"Exfat", mib, map[int64]string{0: "\xeb\x76\x90EXFAT   ", 100: le(0x0123abcd), 510: "\x55\xaa"}, Found{Type: "exfat", UUID: "0123-ABCD"}, false},
	{"NTFS", mib, map[int64]string{0: "\xeb\x52\x90NTFS    ", 72: "\xef\xcd\xab\x89\x67\x45\x23\x01", 510: "\x55\xaa"}, Found{Type: "ntfs", UUID: "0123456789ABCDEF"}, false},
	{"ZFS", 64 * mib, map[int64]string{16384: "\x01\x01\x00\x00" + zeros(8) + xdr("name", "\x00\x00\x00\x04tank", 9) + xdr("pool_guid", "\x00\x00\x00\x00\x00\x00\x12\x34", 8),
		131072: "\x0c\xb1\xba", 132096: "\x0c\xb1\xba", 133120: "\x0c\xb1\xba", 134144: "\x0c\xb1\xba"}, Found{Type: "zfs_member", UUID: "4660", Label: "tank"}, false},
	{"Suspended", mib, map[int64]string{4086: "S1SUSPEND\x00"}, Found{Type: "swsuspend"}, true},
	{"GPTAtTheEnd", mib, map[int64]string{mib - 512: "EFI PART" + zeros(48) + "\x67\x45\x23\x01\xab\x89\xef\xcd" + uuidA[8:]}, Found{Type: "gpt", UUID: textA, Table: true}, false},
}

func indexOf(name string) int {
	for i, f := range formats {
		if f.name == name {
			return i
		}
	}
	return -1
}

func TestRead_Made(t *testing.T) {
	for _, c := range made {
		t.Run(c.name, func(t *testing.T) {
			path := image(t, c.size, c.parts)
			if got := look(t, path, 512); len(got) != 1 || got[0] != c.want {
				t.Errorf("found %+v, want %+v", got, c.want)
			}
			if c.checked && require.Missing(require.Blkid) == nil {
				if got := blkid(t, path); got != c.want {
					t.Errorf("blkid finds %+v, want %+v", got, c.want)
				}
			}
		})
	}
}

// A disk may hold several things; what only looks like one is none.
func TestRead_Several(t *testing.T) {
	for _, c := range []struct {
		name  string
		parts map[int64]string
		want  string
	}{
		{"Nothing", nil, ""},
		{"Data", map[int64]string{0: strings.Repeat("some text ", 20000)}, ""},
		{"Hybrid", map[int64]string{446 + 4: "\x83", 446 + 12: "\x01", 440: le(0xabcd), 510: "\x55\xaa", 32768: "\x01CD001\x01"}, `dos partition table 0000abcd, iso9660`},
		{"GPTReplacedByDOS", map[int64]string{446 + 4: "\x83", 446 + 12: "\x01", 510: "\x55\xaa", 512: "EFI PART", 568: uuidA}, `dos partition table`},
		{"GPT", map[int64]string{446 + 4: "\xee", 446 + 12: "\x01", 510: "\x55\xaa", 512: "EFI PART", 568: uuidA}, `gpt partition table 67452301-ab89-efcd-0123-456789abcdef`},
		{"BootCode", map[int64]string{0: "\xeb\x3c", 446: "boot code, not partitions", 510: "\x55\xaa"}, ""},
		{"NoPartitions", map[int64]string{510: "\x55\xaa"}, ""},
		{"HostileLabel", map[int64]string{0: "XFSB", 108: "\x1b[2J\n\xff\xe2\x80\xaex"}, `xfs "?[2J???x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, f := range look(t, image(t, mib, c.parts), 0) {
				got = append(got, f.String())
			}
			if text := strings.Join(got, ", "); text != c.want {
				t.Errorf("found %s, want %s", text, c.want)
			}
		})
	}
}

// The beginning of a stream shows what the whole shows, but for marks at the end.
func TestHead(t *testing.T) {
	for _, c := range made {
		whole := look(t, image(t, c.size, c.parts), 0)
		first, err := os.ReadFile(image(t, c.size, c.parts))
		if err != nil {
			t.Fatal(err)
		}
		got := Head(first[:min(len(first), HeadSize)])
		atEnd := map[string]bool{"MD1.0": true, "MD0.90": true, "DRBD8": true, "DRBD9": true, "GPTAtTheEnd": true}[c.name]
		if atEnd && len(got) != 0 || !atEnd && (len(got) != 1 || got[0] != whole[0]) {
			t.Errorf("%s: found %+v, not %+v", c.name, got, whole)
		}
	}
}

func TestPartition(t *testing.T) {
	require.Need(t, require.Fdisk)
	for _, c := range []struct {
		name, script string
		number       int
		start        int64
		want         string
	}{
		{"GPT", "label: gpt\nsize=1M\nsize=1M, uuid=01234567-89AB-CDEF-0123-456789ABCDEF\n", 2, 2 * mib, textA},
		{"GPTOfAnotherPlace", "label: gpt\nsize=1M\nsize=1M, uuid=01234567-89AB-CDEF-0123-456789ABCDEF\n", 2, 3 * mib, ""},
		{"GPTWithoutThatOne", "label: gpt\nsize=1M\n", 2, 2 * mib, ""},
		{"DOS", "label: dos\nlabel-id: 0x12abcdef\nsize=1M\nsize=1M\n", 2, 2 * mib, "12abcdef-02"},
		{"DOSOfAnotherPlace", "label: dos\nlabel-id: 0x12abcdef\nsize=1M\nsize=1M\n", 2, mib, ""},
		{"DOSLogical", "label: dos\nlabel-id: 0x12abcdef\nsize=4M, type=5\nsize=1M\n", 5, 2 * mib, "12abcdef-05"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := image(t, 8*mib, nil)
			run(t, c.script, "sfdisk", "-q", path)
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if got := Partition(f, 8*mib, 512, c.number, c.start); got != c.want {
				t.Errorf("%q, not %q", got, c.want)
			}
		})
	}
}

// Whatever is on a disk, it is looked at without a panic, within the bytes that
// are said to be read, and what is said of it is short and printable.
func FuzzRead(f *testing.F) {
	for _, c := range made {
		var parts []byte
		for at, part := range c.parts {
			parts = append(binary.LittleEndian.AppendUint32(parts, uint32(at)), byte(len(part)))
			parts = append(parts, part...)
		}
		f.Add(uint32(c.size), parts)
	}
	f.Fuzz(func(t *testing.T, size uint32, parts []byte) {
		d := &counted{size: int64(size)}
		for len(parts) > 5 {
			n := min(int(parts[4]), len(parts)-5)
			d.parts = append(d.parts, part{int64(binary.LittleEndian.Uint32(parts)), parts[5 : 5+n]})
			parts = parts[5+n:]
		}
		for _, sector := range []int{0, 512, 4096} {
			d.read = 0
			for _, found := range Read(d, d.size, sector) {
				if s := found.String(); len(s) > 2000 || strings.ContainsAny(s, "\n\r\x1b\x00") {
					t.Errorf("%q", s)
				}
			}
			if d.read > headSize+tailSize {
				t.Errorf("%d bytes were read", d.read)
			}
			for number := range 3 {
				Partition(d, d.size, sector, number, 512)
			}
		}
	})
}

// part is content at an offset.
type part struct {
	at   int64
	data []byte
}

// counted is a disk of few bytes that counts what is read of it.
type counted struct {
	size, read int64
	parts      []part
}

func (d *counted) ReadAt(p []byte, off int64) (int, error) {
	d.read += int64(len(p))
	for _, part := range d.parts {
		for i, c := range part.data {
			if at := part.at + int64(i) - off; at >= 0 && at < int64(len(p)) {
				p[at] = c
			}
		}
	}
	return len(p), nil
}
