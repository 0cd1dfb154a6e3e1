package device

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

func TestKernel_Identities(t *testing.T) {
	k := fakeKernel(t)
	volume := "LVM-" + strings.Repeat("g", 32) + "abcdefghijklmnopqrstuvwxyzABCDEF"
	k.add(t, map[string]string{
		"sys/devices/sda/device/serial":   "S5Y1 NX0R  \n",
		"sys/devices/sda/device/vpd_pg80": "\x00\x80\x00\x06 S5Y1 NX0R",
		"sys/devices/sda/device/wwid":     "naa.5002538f31234567\n",
		"sys/devices/sda/sda1/uevent":     "PARTN=1\nPARTUUID=0123-01\n",
		"sys/devices/sdb/device/vpd_pg80": "\x00\x80\x00\x10 12\x1b[2J\xff\x00\x00",
		"sys/devices/sdb/device/wwid":     "t10.ATA     Samsung SSD 870                     S5Y1      \n",
		"sys/devices/sdc/serial":          strings.Repeat("x", maxID),
		"sys/devices/dm-0/dm/uuid":        volume + "\n",
		"sys/devices/md127/md/uuid":       "1:2:3:4\n",
	})
	for n, want := range map[number]string{
		{8, 0}:   "serial=S5Y1 NX0R; serial=S5Y1; wwn=0x5002538f31234567", // the length of the page ends the second
		{8, 1}:   "partuuid=0123-01; serial=S5Y1 NX0R; serial=S5Y1; wwn=0x5002538f31234567",
		{8, 2}:   "serial=S5Y1 NX0R; serial=S5Y1; wwn=0x5002538f31234567",
		{8, 16}:  "serial=12?[2J?; wwn=t10.ATA Samsung SSD 870 S5Y1", // runs of blanks are one
		{8, 32}:  "",
		{253, 0}: "dm-uuid=" + volume + "; lv-uuid=abcdef-ghij-klmn-opqr-stuv-wxyz-ABCDEF",
		{9, 9}:   "",
	} {
		if got := strings.Join(k.identities(n, true), "; "); got != want {
			t.Errorf("%v: got %s\nwant %s", n, got, want)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		id, want string
		same     bool
	}{
		{"serial=S5Y1", "S5Y1", true},
		{"serial=S5Y1", "serial=S5Y1", true},
		{"serial=S5Y1", "wwn=S5Y1", false},
		{"serial=S5Y1", "S5Y", false},
		{"serial=S5Y1", "serial=", false},
		{"uuid=0123-ABCD", "UUID=0123-abcd", true},
		{"partuuid=0123-abcd", "UUID=0123-abcd", false},
		{"wwn=naa.5002538f31234567", "0x5002538F31234567", true},
		{"wwn=naa.5002538f31234567", "wwn=0x5002538f31234567", true},
		{"wwn=eui.5002", "5002", true},
		{"serial=naa.5002", "0x5002", false},
		{"file=/a=b", "/a=b", true},
		{"wwn=t10.ATA Disk S5Y1", "t10.ATA     Disk    S5Y1 ", true},
	} {
		if got := matches(c.id, c.want); got != c.same {
			t.Errorf("%s is %s: %v", c.id, c.want, got)
		}
	}
}

// lead are the options of a session that leads.
func lead(size int64, expect string, pins ...string) WriteOptions {
	return WriteOptions{Size: size, Lead: true, Claim: Token{1}, Expect: expect, Pins: pins}
}

// wantRefused checks that a target that is not the expected one is refused, though without the expectation it would
// be opened, and that it has not changed.
func wantRefused(t *testing.T, path string, w WriteOptions, words ...string) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w.Force = true // must not help
	_, err = OpenWrite(path, w)
	wantError(t, err, ErrIdentity, path, words...)
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("it has changed: %v", err)
	}
	w.Expect, w.Pins = "", nil
	o, err := OpenWrite(path, w)
	if err != nil {
		t.Fatalf("it would be refused in any case: %v", err)
	}
	o.Close() // not aborted: what is new stays as it is
}

func TestOpenWrite_Expect(t *testing.T) {
	require.Need(t, require.Root, require.Loop, require.Mkfs)
	const uuid = "01234567-89ab-cdef-0123-456789abcdef"
	file := image(t, 8*mib)
	run(t, "mkfs.ext4", "-q", "-F", "-L", "mail", "-U", uuid, file)
	dev := loop(t, file)
	for _, expect := range []string{"uuid=" + uuid, strings.ToUpper(uuid), "file=" + file, file} {
		o, err := OpenWrite(dev, lead(8*mib, expect))
		if err != nil {
			t.Fatal(err)
		}
		lasting, content := o.IDs()
		if !slices.Equal(lasting, []string{"file=" + file}) || !slices.Equal(content, []string{"uuid=" + uuid}) ||
			!slices.Equal(o.Content(), []string{`ext4 "mail" ` + uuid}) {
			t.Errorf("%q, %q, %q", lasting, content, o.Content())
		}
		o.Abort()
	}
	wantRefused(t, dev, lead(8*mib, "uuid=76543210-89ab-cdef-0123-456789abcdef"), "expected: that has the identity uuid=76543210", "file="+file, uuid)
	wantRefused(t, dev, WriteOptions{Size: 8 * mib, Expect: "x"}, "identity x")
	empty := loop(t, image(t, mib))
	wantRefused(t, empty, lead(mib, "uuid="+uuid), "this one has file=")
}

// A file is changed in size by opening, and made: neither must happen before it is known to be the right one.
func TestOpenWrite_ExpectFile(t *testing.T) {
	file := image(t, mib)
	wantRefused(t, file, lead(2*mib, "serial=1"), "this one has none")
	wantRefused(t, image(t, mib), lead(2*mib, "", "serial=1"), "was serial=1, is none")
	dir := filepath.Join(t.TempDir(), "dir")
	for _, w := range []WriteOptions{lead(mib, "serial=1"), lead(mib, "", "serial=1")} {
		_, err := OpenWrite(filepath.Join(dir, "new.img"), w)
		wantError(t, err, ErrIdentity, "new.img", "does not exist", "serial=1")
		if _, err := os.Stat(dir); err == nil {
			t.Error("its directory was made")
		}
	}
}

// The device of the same name is another one than before.
func TestOpenWrite_Pins(t *testing.T) {
	require.Need(t, require.Root, require.Loop)
	first, second := image(t, mib), image(t, mib)
	one, other := loop(t, first), loop(t, second)
	dev := filepath.Join(t.TempDir(), "disk")
	if err := os.Symlink(one, dev); err != nil {
		t.Fatal(err)
	}
	o, err := OpenWrite(dev, lead(mib, ""))
	if err != nil {
		t.Fatal(err)
	}
	pins, _ := o.IDs()
	o.Abort()
	again, err := OpenWrite(dev, lead(mib, "", pins...))
	if err != nil {
		t.Fatal(err)
	}
	again.Abort()
	if err := os.Remove(dev); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, dev); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, dev, lead(mib, "", pins...), "not the disk that was synced before: was file="+first+", is file="+second, "unpin")
	// One of several is not enough.
	wantRefused(t, dev, lead(mib, "", "file="+second, "serial=1"), "was file="+second+", serial=1, is file="+second)
}

// A follower writes while the content changes, so it is bound by the claim alone.
func TestOpenWrite_ExpectFollower(t *testing.T) {
	require.Need(t, require.Root, require.Loop, require.Mkfs)
	dev := loop(t, image(t, 8*mib))
	run(t, "mkfs.ext4", "-q", "-F", dev)
	id := "uuid=" + run(t, "blkid", "-p", "-o", "value", "-s", "UUID", dev)
	o, err := OpenWrite(dev, lead(8*mib, id))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Abort()
	if err := o.Zero(0, 8*mib); err != nil {
		t.Fatal(err)
	}
	w := lead(8*mib, id)
	w.Lead = false
	follower, err := OpenWrite(dev, w)
	if err != nil {
		t.Fatal(err)
	}
	follower.Abort()
}

// The identity of a partition is in the table of its disk, which is read where the kernel does not tell it.
func TestOpenWrite_ExpectPartition(t *testing.T) {
	require.Need(t, require.Root, require.Loop, require.Fdisk)
	const uuid = "01234567-89ab-cdef-0123-456789abcdef"
	for _, sector := range []int64{512, 4096} {
		t.Run(strconv.FormatInt(sector, 10), func(t *testing.T) {
			disk := loop(t, image(t, 16*mib), "-P", "--sector-size="+strconv.FormatInt(sector, 10))
			script := filepath.Join(t.TempDir(), "script")
			writeFile(t, script, []byte("label: gpt\nstart="+strconv.FormatInt(mib/sector, 10)+", size="+strconv.FormatInt(4*mib/sector, 10)+", uuid="+uuid+"\n"))
			run(t, "sh", "-c", "sfdisk -q --no-reread --no-tell-kernel "+disk+" <"+script)
			part := partition(t, disk, mib, 4*mib)
			for _, expect := range []string{uuid, "PARTUUID=" + strings.ToUpper(uuid)} {
				o, err := OpenWrite(part, lead(4*mib, expect))
				if err != nil {
					t.Fatal(err)
				}
				o.Abort()
			}
			wantRefused(t, part, lead(4*mib, "uuid="+uuid), "partuuid="+uuid)
			got, err := Describe(part, true)
			if text := facts(got); err != nil || !strings.Contains(text, "ids=partuuid="+uuid) {
				t.Errorf("%s, %v", text, err)
			}
			got, err = Describe(disk, true)
			if text := facts(got); err != nil || !strings.Contains(text, "ids=ptuuid=") || !strings.Contains(text, "content=gpt partition table") {
				t.Errorf("%s, %v", text, err)
			}
		})
	}
}

// Reading a table again cannot fail a copy, and says why it did not work.
func TestObject_RereadPartitions(t *testing.T) {
	require.Need(t, require.Root, require.Loop)
	disk := loop(t, image(t, 16*mib))
	o, err := OpenWrite(disk, lead(16*mib, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Abort()
	if said := o.RereadPartitions(); !strings.Contains(said, disk+": has no partitions of its own") || !strings.Contains(said, "--partscan") {
		t.Error(said)
	}
	disk = loop(t, image(t, 32*mib), "-P")
	part := partition(t, disk, mib, 4*mib)
	held, err := os.Open(part)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	whole, err := OpenWrite(disk, lead(32*mib, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Abort()
	if said := whole.RereadPartitions(); !strings.Contains(said, "one of its partitions is in use") {
		t.Error(said)
	}
	if err := whole.Commit(time.Time{}); err != nil {
		t.Error(err)
	}
}

// A name that leads to something else than when it was looked at is refused; each case would be written otherwise.
func TestOpenWrite_Seen(t *testing.T) {
	require.Need(t, require.Root, require.Loop)
	file, block := File, Block
	dev, img := loop(t, image(t, mib)), image(t, mib)
	damage(t, dev)
	damage(t, img)
	for _, c := range []struct {
		path string
		seen *Kind
		word string
	}{
		{dev, &file, "was a file when it was looked at and is a device now"},
		{img, &block, "was a device when it was looked at and is a file now"},
		{filepath.Join(t.TempDir(), "gone"), &block, "is gone: nothing is created"},
	} {
		w := lead(mib, "")
		w.Seen, w.Force = c.seen, true
		_, err := OpenWrite(c.path, w)
		wantError(t, err, ErrRefused, c.path, c.word)
		for _, seen := range []*Kind{nil, map[*Kind]*Kind{&file: &block, &block: &file}[c.seen]} {
			w.Seen = seen
			o, err := OpenWrite(c.path, w)
			if err != nil {
				t.Fatalf("%s, seen as %v: %v", c.path, seen, err)
			}
			o.Abort()
		}
	}
}

// What cannot be opened still has the identities that the kernel tells.
func TestDescribe_NotOpened(t *testing.T) {
	file := image(t, mib)
	info, err := Stat(loop(t, file))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/dev/nothing", file} { // the second is something else
		if got := facts(properties{}.look(path, info)); got != "ids=file="+file {
			t.Errorf("%s: %q", path, got)
		}
	}
}
