package device

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// mountFS mounts a file system that has no device, until the test ends.
func mountFS(t *testing.T, fstype, options string) (dir string) {
	t.Helper()
	require.Need(t, require.Root, require.Mount)
	dir = t.TempDir()
	run(t, "mount", "-t", fstype, "-o", options, "none", dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	return dir
}

// What an image takes when zeros are written: all its space, from the start, whether it is new, grows, or had holes.
func TestZeroWrite_File(t *testing.T) {
	const size = 8 * mib
	for _, c := range []struct {
		name   string
		before int64 // size of an image that exists, -1 for none
	}{{"New", -1}, {"Grows", mib}, {"HasHoles", size}, {"Shrinks", 2 * size}} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk.img")
			if c.before >= 0 {
				if err := os.WriteFile(path, pattern(mib/2), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(path, c.before); err != nil {
					t.Fatal(err)
				}
			}
			o, err := OpenWrite(path, WriteOptions{Size: size, Zero: ZeroWrite})
			if err != nil {
				t.Fatal(err)
			}
			defer o.Abort()
			if used := onDisk(t, o.Path()); used < size {
				t.Errorf("%d bytes allocated before the first write", used)
			}
			if _, err := o.WriteAt(pattern(2*mib), 4*mib); err != nil {
				t.Fatal(err)
			}
			if err := o.Zero(0, 5*mib); err != nil {
				t.Fatal(err)
			}
			if err := o.Commit(time.Time{}); err != nil {
				t.Fatal(err)
			}
			want := make([]byte, size)
			copy(want[5*mib:], pattern(2 * mib)[mib:])
			wantContent(t, path, want)
			if used := onDisk(t, path); used < size {
				t.Errorf("%d bytes allocated", used)
			}
		})
	}
}

// A disk that is too small for all of the image says so before anything is written.
func TestZeroWrite_NoSpace(t *testing.T) {
	dir := mountFS(t, "tmpfs", "size=4m")
	small := filepath.Join(dir, "small.img")
	writeFile(t, small, pattern(4096))
	_, err := OpenWrite(small, WriteOptions{Size: 8 * mib, Zero: ZeroWrite})
	wantError(t, err, ErrNoSpace, small)
	wantContent(t, small, pattern(4096))

	_, err = OpenWrite(filepath.Join(dir, "new.img"), WriteOptions{Size: 8 * mib, Zero: ZeroWrite})
	wantError(t, err, ErrNoSpace, dir)
	wantNames(t, dir, "small.img")
	if used := onDisk(t, small); used > 4096 {
		t.Errorf("refused, and the image takes %d bytes", used)
	}

	o, err := OpenWrite(small, WriteOptions{Size: 8 * mib}) // and sparse it fits
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(time.Time{}); err != nil {
		t.Fatal(err)
	}
}

// What an interrupted run has left is not lost when the next one is refused.
func TestZeroWrite_KeepsPartial(t *testing.T) {
	path := filepath.Join(mountFS(t, "tmpfs", "size=4m"), "new.img")
	o, err := OpenWrite(path, WriteOptions{Size: 3 * mib})
	if err != nil {
		t.Fatal(err)
	}
	partial := o.Path()
	if _, err := o.WriteAt(pattern(mib), 0); err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(partial)
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenWrite(path, WriteOptions{Size: 8 * mib, Zero: ZeroWrite})
	wantError(t, err, ErrNoSpace, partial, "gives it all its space")
	wantContent(t, partial, before)
}

// One that ends half way is named as such.
func TestReserveFailed(t *testing.T) {
	wantError(t, reserveFailed("/x", unix.EDQUOT), ErrNoSpace, "/x", "a part of it only")
	wantError(t, reserveFailed("/x", unix.EIO), ErrIO, "/x")
	if err := reserveFailed("/x", nil); err != nil {
		t.Error(err)
	}
}

// A device keeps what it has when zeros are written, and loses it when space is to be freed.
func TestZeroModes_Device(t *testing.T) {
	const size = 8 * mib
	for mode, frees := range map[ZeroMode]int64{ZeroAuto: 4 * mib, ZeroWrite: 0, ZeroPunch: 4 * mib} {
		file := filepath.Join(t.TempDir(), "disk.img")
		model := pattern(size)
		writeFile(t, file, model)
		o, err := OpenWrite(loop(t, file), WriteOptions{Size: size, Zero: mode})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Abort()
		before := onDisk(t, file)
		if err := o.Zero(mib-1, 4*mib+2); err != nil {
			t.Fatal(err)
		}
		if err := o.Commit(time.Time{}); err != nil {
			t.Fatal(err)
		}
		clear(model[mib-1 : 5*mib+1])
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, model) {
			t.Errorf("mode %d: content differs from the model: %v", mode, err)
		}
		if got := before - onDisk(t, file); got != frees {
			t.Errorf("mode %d: %d bytes freed, not %d", mode, got, frees)
		}
	}
}

// Where no space can be freed, punch refuses before anything changes: files on ramfs, and disks made of them.
func TestZeroPunch_Refused(t *testing.T) {
	const size = 4 * mib
	dir := mountFS(t, "ramfs", "mode=700")
	file, backing := filepath.Join(dir, "disk.img"), filepath.Join(dir, "backing.img")
	writeFile(t, file, pattern(size))
	writeFile(t, backing, pattern(size))
	dev := loop(t, backing)
	for _, c := range []struct{ path, why string }{
		{file, "no holes"}, {filepath.Join(dir, "new.img"), "no holes"}, {dev, "knows no request that frees"},
	} {
		_, err := OpenWrite(c.path, WriteOptions{Size: 2 * size, IgnoreSize: c.path == dev, Zero: ZeroPunch})
		wantError(t, err, ErrUnsupported, "", "zero = punch", c.why, "zero = auto")
	}
	wantContent(t, file, pattern(size))
	wantContent(t, dev, pattern(size))
	wantNames(t, dir, "backing.img", "disk.img")

	// The same targets are zeroed by writing when nothing is insisted on.
	for _, path := range []string{file, dev} {
		o, err := OpenWrite(path, WriteOptions{Size: size})
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Zero(0, size); err != nil {
			t.Fatal(err)
		}
		if err := o.Commit(time.Time{}); err != nil {
			t.Fatal(err)
		}
		wantContent(t, path, make([]byte, size))
	}
}

// A disk says by its driver whether what it frees reads as zeros, and so must all disks below a volume.
func TestCannotFree(t *testing.T) {
	k := fakeKernel(t)
	dir := filepath.Join(k.sys, "devices/sdq")
	k.add(t, map[string]string{
		"sys/devices/sdq/queue/write_zeroes_max_bytes":              "65536",
		"sys/devices/sdq/device/scsi_disk/0:0:0:0/zeroing_mode":     "writesame_16_unmap",
		"sys/devices/sdq/sdq1/partition":                            "1",
		"sys/devices/sdr/queue/write_zeroes_max_bytes":              "65536",
		"sys/devices/sdr/device/scsi_disk/0:0:0:0/zeroing_mode":     "writesame",
		"sys/devices/nvme/queue/write_zeroes_max_bytes":             "131072",
		"sys/devices/old/queue/write_zeroes_max_bytes":              "0",
		"sys/devices/dm-9/queue/write_zeroes_max_bytes":             "65536",
		"sys/devices/dm-9/slaves/sdq/queue/write_zeroes_max_bytes":  "65536",
		"sys/devices/dm-8/queue/write_zeroes_max_bytes":             "65536",
		"sys/devices/dm-8/slaves/sdq/queue/write_zeroes_max_bytes":  "65536",
		"sys/devices/dm-8/slaves/lost/queue/write_zeroes_max_bytes": "0",
	})
	for name, why := range map[string]string{
		"sdq": "", "sdq/sdq1": "", "nvme": "", "dm-9": "",
		"sdr":  "sdr promises no zeros where it frees space",
		"old":  "old knows no request that frees space and gives zeros",
		"dm-8": "lost knows no request that frees space and gives zeros",
	} {
		if got := cannotFree(filepath.Join(filepath.Dir(dir), name)); got != why {
			t.Errorf("%s: %q, not %q", name, got, why)
		}
	}
}

// A disk's own words decide whether it may be told to forget a range: all of them must fit.
func TestKernel_UnmapUnit(t *testing.T) {
	good := map[string]string{
		"sys/devices/sda/device/scsi_disk/0:0:0:0/provisioning_mode": "unmap\n",
		"sys/devices/sda/device/scsi_disk/0:0:0:0/zeroing_mode":      "writesame\n",
		"sys/devices/sda/device/vpd_pgb2":                            "\x00\xb2\x00\x04\x00\x84\x00\x00",
		"sys/devices/sda/queue/discard_max_bytes":                    "65536\n",
		"sys/devices/sda/queue/discard_granularity":                  "65536\n",
		"sys/devices/sda/discard_alignment":                          "0\n",
		"sys/devices/sda/sda1/discard_alignment":                     "0\n",
	}
	for name, c := range map[string]struct {
		file, content string
		unit          int64
	}{
		"Good":           {"sda/discard_alignment", "0", 65536},
		"Small":          {"sda/queue/discard_granularity", "512", int64(os.Getpagesize())},
		"Odd":            {"sda/queue/discard_granularity", "65535", 0},
		"None":           {"sda/queue/discard_granularity", "0", 0},
		"NoDiscard":      {"sda/queue/discard_max_bytes", "0", 0},
		"OtherMode":      {"sda/device/scsi_disk/0:0:0:0/provisioning_mode", "writesame_16", 0},
		"KernelDoesBoth": {"sda/device/scsi_disk/0:0:0:0/zeroing_mode", "writesame_16_unmap", 0},
		"NoPromise":      {"sda/device/vpd_pgb2", "\x00\xb2\x00\x04\x00\x80\x00\x00", 0},
		"Ones":           {"sda/device/vpd_pgb2", "\x00\xb2\x00\x04\x00\x88\x00\x00", 0},
		"NoUnmap":        {"sda/device/vpd_pgb2", "\x00\xb2\x00\x04\x00\x44\x00\x00", 0},
		"AnotherPage":    {"sda/device/vpd_pgb2", "\x00\xb1\x00\x04\x00\x84\x00\x00", 0},
		"ShortPage":      {"sda/device/vpd_pgb2", "\x00\xb2", 0},
		"Unaligned":      {"sda/discard_alignment", "3584", 0},
	} {
		k := fakeKernel(t)
		k.add(t, good)
		k.add(t, map[string]string{"sys/devices/" + c.file: c.content})
		if unit := k.unmapUnit("b:8:0"); unit != c.unit {
			t.Errorf("%s: %d, not %d", name, unit, c.unit)
		}
		if name == "Unaligned" {
			c.unit = 65536 // the partition has its own place
		}
		if unit := k.unmapUnit("b:8:1"); unit != c.unit {
			t.Errorf("%s: partition: %d, not %d", name, unit, c.unit)
		}
		if unit := k.unmapUnit("b:8:16"); unit != 0 {
			t.Errorf("%s: another disk: %d", name, unit)
		}
	}
}
