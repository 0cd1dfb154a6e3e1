//go:build vm

package inside

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// turn makes a part fail in a way that dm-flakey knows, or work again when that is empty.
func (c *cutting) turn(t *testing.T, name, how string) {
	t.Helper()
	for _, p := range c.parts {
		switch {
		case p.name != name:
		case how == "":
			reload(t, "/dev/mapper/"+name, fmt.Sprintf("0 %s linear %s %s", sectors(p.n), c.dev, sectors(p.off)))
			failed, err := os.OpenFile("/dev/mapper/"+name, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			_ = failed.Sync() // the kernel tells of a write that has failed until somebody has heard it
			failed.Close()
			run(t, "blockdev", "--flushbufs", "/dev/mapper/"+name)
		default:
			reload(t, "/dev/mapper/"+name, fmt.Sprintf("0 %s flakey %s %s 0 3600 1 %s", sectors(p.n), c.dev, sectors(p.off), how))
		}
	}
}

// failure is one of a disk, during a copy or an undo.
type failure struct {
	name   string
	part   string
	how    string
	at     int64 // of the copy; more than all for the undo
	atomic bool
	verify wire.Verification
	code   wire.Code // 0 for success
	says   string
	left   string // content, when that is certain
	then   func(c *cutting) func(t *testing.T)
}

// run has the disk fail, and work again.
func (tt *failure) run(t *testing.T, c *cutting) {
	set := c.undoing
	if tt.atomic {
		set = c.atomic
	}
	err := c.copySteps(t, func(o *wire.Open) { set(o); o.Verify = tt.verify }, func(off int64) {
		if off == tt.at {
			c.turn(t, tt.part, tt.how)
		}
	})
	if tt.at > cutSize {
		if err != nil {
			t.Fatal(err)
		}
		c.turn(t, tt.part, tt.how)
		_, err = c.undo(t)
	}
	t.Logf("said %v", err)
	if tt.code == 0 && err != nil || tt.code != 0 && (!errors.Is(err, tt.code) || !strings.Contains(err.Error(), tt.says)) {
		t.Errorf("got %v", err)
	}
	if tt.part == "files" { // what the kernel has of it is not what is on the disk
		c.umount(t)
	}
	c.turn(t, tt.part, "")
	if tt.part == "files" {
		c.mount(t)
	}
	if now := c.state(t); tt.left != "" && now != tt.left {
		t.Errorf("the target is %s", now)
	}
	tt.then(c)(t)
}

// The disk of the target, or that of its log, fails at a moment: what is said then, and how the target comes to be old
// or new again when the disk works.
func TestDiskFails(t *testing.T) {
	undo := func(c *cutting, says string) func(t *testing.T) {
		return func(t *testing.T) {
			told, err := c.undo(t)
			if err != nil || told != says || c.state(t) != "old" {
				t.Errorf("undo says %s, %v, and leaves %s", told, err, c.state(t))
			}
		}
	}
	recovery := func(c *cutting, says string) func(t *testing.T) {
		return func(t *testing.T) {
			told, err := c.recover(t)
			if err != nil || told != says || told != "none" && c.state(t) != says || c.state(t) == "mixed" {
				t.Errorf("recover says %s, %v, and leaves %s", told, err, c.state(t))
			}
		}
	}
	for _, tt := range []failure{
		{"undo, log fails", "files", "error_writes", cutSize / 2, false, 0, wire.CodeIO, ".undo", "mixed",
			func(c *cutting) func(t *testing.T) { return undo(c, "interrupted") }},
		{"undo, target fails", "target", "error_writes", cutSize / 2, false, 0, wire.CodeIO, "/dev/mapper/target", "mixed",
			func(c *cutting) func(t *testing.T) { return undo(c, "interrupted") }},
		{"undo, target drops", "target", "drop_writes", cutSize / 2, false, 0, 0, "", "mixed",
			func(c *cutting) func(t *testing.T) {
				return func(t *testing.T) {
					if told, err := c.undo(t); !errors.Is(err, wire.CodeRefused) || c.state(t) != "mixed" {
						t.Errorf("undo says %s, %v, and leaves %s", told, err, c.state(t))
					}
					req := &wire.Undo{Dir: c.point, Force: true}
					req.Path = c.target
					if told, err := c.told(t, req, "copy"); err != nil || told != "complete" || c.state(t) != "old" {
						t.Errorf("undo by force says %s, %v, and leaves %s", told, err, c.state(t))
					}
				}
			}},
		{"bringing back fails", "target", "error_writes", 2 * cutSize, false, 0, wire.CodeIO, "run the same undo again", "",
			func(c *cutting) func(t *testing.T) { return undo(c, "undone in part") }},
		{"atomic, spool fails", "files", "error_writes", cutSize / 2, true, 0, wire.CodeIO, ".spool", "old",
			func(c *cutting) func(t *testing.T) { return recovery(c, "old") }},
		{"atomic, target fails", "target", "error_writes", cutSize, true, 0, wire.CodeIO, "run backend recover", "",
			func(c *cutting) func(t *testing.T) { return recovery(c, "new") }},
		{"atomic, target drops", "target", "drop_writes", cutSize, true, wire.VerifyWritten, wire.CodeCorrupted, "run backend recover", "old",
			func(c *cutting) func(t *testing.T) { return recovery(c, "new") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCutting(t)
			c.use(t, c.dev, func() { tt.run(t, c) })
		})
	}
}

// What a disk could not take is not in the cache for the next copy to find, which would then have nothing to do: also where
// the cache had the old content, and somebody keeps the device open.
func TestDiskFails_Cached(t *testing.T) {
	const size = 8 * mib
	disk := harness.Loop(t, size).Path
	working := "0 " + sectors(size) + " linear " + disk + " 0"
	target := dm(t, "target", working)
	src := harness.Image{Size: size, Seed: 1}.File(t)
	held, err := os.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if _, err := io.Copy(io.Discard, held); err != nil {
		t.Fatal(err)
	}
	reload(t, target, "0 "+sectors(size)+" flakey "+disk+" 0 0 3600 1 error_writes")
	if err := copyOnce(t, src, target, size); !errors.Is(err, wire.CodeIO) {
		t.Errorf("got %v", err)
	}
	reload(t, target, working)
	if err := copyOnce(t, src, target, size); err != nil {
		t.Fatal(err)
	}
	harness.Same(t, src, disk)
}

// A log on a file system that lies on a mapping of the target is refused.
func TestLogOnMapping(t *testing.T) {
	const size = 32 * mib
	c := new(cutting)
	c.disk = newDisk(t, "ext4", []string{"mkfs.ext4", "-q", "-F"}, part{"files", 0, size})
	c.target = c.dev
	c.use(t, c.dev, func() {
		o, err := device.OpenWrite(c.dev, device.WriteOptions{Size: size, Force: true, Prepare: func(o *device.Object) error { return o.Apart(c.point) }})
		if o != nil {
			o.Close()
		}
		if !errors.Is(err, device.ErrRefused) || !strings.Contains(err.Error(), "is on /dev/dm-") {
			t.Errorf("got %v", err)
		}
	})
}
