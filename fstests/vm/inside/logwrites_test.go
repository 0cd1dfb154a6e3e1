//go:build vm

package inside

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// The log of dm-log-writes, as drivers/md/dm-log-writes.c writes it. Numbers are little endian; places and lengths are
// in sectors of 512 bytes, the sector size of the loop devices here.
const (
	logMagic     = 0x6a736677736872
	flagFlush    = 1 << 0 // what was written before is durable
	flagFUA      = 1 << 1 // it is durable itself
	flagDiscard  = 1 << 2
	flagMark     = 1 << 3 // no write
	logSuperSize = 512
)

// logged is a write that was recorded.
type logged struct {
	off, n int64 // bytes
	flags  uint64
	data   []byte // nil for zeros
}

// durable tells that whoever waited for l knows that something is on the disk.
func (l *logged) durable() bool { return l.flags&(flagFlush|flagFUA) != 0 }

// readLog reads what was recorded, in the order in which it was logged: a write comes before the flush that makes it
// durable.
func readLog(t *testing.T, dev string) (all []logged) {
	t.Helper()
	harness.Settle(t, dev)
	f, err := os.Open(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	num := binary.LittleEndian.Uint64
	sector := make([]byte, logSuperSize)
	at := int64(0)
	next := func(p []byte) {
		if _, err := f.ReadAt(p, at); err != nil {
			t.Fatal(err)
		}
		at += int64(len(p))
	}
	next(sector)
	if magic, size := num(sector), binary.LittleEndian.Uint32(sector[24:]); magic != logMagic || size != 512 {
		t.Fatalf("no log: magic %x, sectors of %d bytes", magic, size)
	}
	for range num(sector[16:]) {
		next(sector)
		l := logged{off: int64(num(sector)) * 512, n: int64(num(sector[8:])) * 512, flags: num(sector[16:])}
		if l.flags&(flagMark|flagDiscard) == 0 { // the text of a mark is in the sector itself
			l.data = make([]byte, l.n)
			next(l.data)
		}
		all = append(all, l)
	}
	return all
}

// write does what was recorded once more.
func (l *logged) write(t *testing.T, f *os.File) {
	t.Helper()
	data := l.data
	if l.flags&flagMark != 0 {
		return
	}
	if data == nil {
		data = make([]byte, l.n)
	}
	if _, err := f.WriteAt(data, l.off); err != nil {
		t.Fatal(err)
	}
}

// disk is what loses its power: a target and a file system are parts of it, so that they lose it at one moment and the
// order of what is written to both is kept.
type disk struct {
	dev   string // loop device
	room  string // another, for what its branches have written
	size  int64
	point string // where the file system is mounted
	kind  string // of it
	parts []part // the file system is the last
}

// part is a device that is a range of the disk.
type part struct {
	name   string
	off, n int64 // bytes
}

// newDisk makes one. The first part is the target, if there are two.
func newDisk(t *testing.T, kind string, mkfs []string, parts ...part) *disk {
	t.Helper()
	last := parts[len(parts)-1]
	d := &disk{size: last.off + last.n, point: t.TempDir(), kind: kind, parts: parts}
	d.dev, d.room = harness.Loop(t, d.size).Path, harness.Loop(t, 128*mib).Path
	remove := d.split(t, d.dev)
	run(t, mkfs[0], append(mkfs[1:], "/dev/mapper/"+last.name)...)
	remove()
	return d
}

// mapping makes a device until remove is called.
func mapping(t *testing.T, name, table string) (path string, remove func()) {
	t.Helper()
	run(t, "dmsetup", "create", name, "--table", table)
	return "/dev/mapper/" + name, func() { run(t, "dmsetup", "remove", name) }
}

// split makes the parts of what is on dev until remove is called.
func (d *disk) split(t *testing.T, dev string) (remove func()) {
	t.Helper()
	var tables, names []string
	for _, p := range d.parts {
		names = append(names, p.name)
		tables = append(tables, fmt.Sprintf("%s,,,rw,0 %s linear %s %s", p.name, sectors(p.n), dev, sectors(p.off)))
	}
	run(t, "dmsetup", "create", "--concise", strings.Join(tables, ";"))
	return func() { run(t, "dmsetup", append([]string{"remove"}, names...)...) }
}

// use calls do with the parts of what is on dev, the file system mounted.
func (d *disk) use(t *testing.T, dev string, do func()) {
	t.Helper()
	defer d.split(t, dev)()
	d.mount(t)
	defer d.umount(t)
	do()
}

func (d *disk) mount(t *testing.T) {
	t.Helper()
	if err := unix.Mount("/dev/mapper/"+d.parts[len(d.parts)-1].name, d.point, d.kind, 0, ""); err != nil {
		t.Fatalf("mount: %v", err)
	}
}

func (d *disk) umount(t *testing.T) {
	t.Helper()
	if err := unix.Unmount(d.point, 0); err != nil {
		t.Fatalf("umount: %v", err)
	}
}

// branch calls do with a disk that has what d has, and whose writes d does not get.
func (d *disk) branch(t *testing.T, do func(dev string)) {
	t.Helper()
	dev, remove := mapping(t, "branch", fmt.Sprintf("0 %s snapshot %s %s N 8", sectors(d.size), d.dev, d.room))
	defer remove()
	do(dev)
}

// record tells what do writes to the parts, which d itself does not get.
func (d *disk) record(t *testing.T, do func()) (log []logged) {
	t.Helper()
	d.branch(t, func(dev string) {
		to := harness.Loop(t, 128*mib)
		defer to.Detach(t)
		recorder, remove := mapping(t, "recorder", fmt.Sprintf("0 %s log-writes %s %s", sectors(d.size), dev, to.Path))
		d.use(t, recorder, do)
		if status := run(t, "dmsetup", "status", "recorder"); strings.Contains(status, "disabled") {
			t.Fatalf("the log has no space: %s", status)
		}
		remove()
		log = readLog(t, to.Path)
	})
	return log
}

// apply has d get what was recorded.
func (d *disk) apply(t *testing.T, log []logged) {
	t.Helper()
	f, err := os.OpenFile(d.dev, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range log {
		log[i].write(t, f)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}
