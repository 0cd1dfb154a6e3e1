package device

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// A target in use is refused, and each case shows that nothing else would stop
// the write.
func TestOpenWrite_InUse(t *testing.T) {
	require.Need(t, require.Root, require.Loop, require.Mount, require.Mkfs)
	tests := []struct {
		name  string
		setup func(t *testing.T) (target string, words []string)
	}{
		{"MountedDevice", func(t *testing.T) (string, []string) {
			dev := loop(t, image(t, 16*mib))
			return dev, []string{"it is mounted at " + mounted(t, dev)}
		}},
		{"MountedReadOnly", func(t *testing.T) (string, []string) {
			dev := loop(t, image(t, 16*mib))
			return dev, []string{"it is mounted at " + mounted(t, dev, "-o", "ro")}
		}},
		{"DiskOfMountedPartition", func(t *testing.T) (string, []string) {
			disk := loop(t, image(t, 32*mib), "-P")
			part := partition(t, disk, mib, 16*mib)
			return disk, []string{"its partition " + filepath.Base(part) + " is mounted at " + mounted(t, part)}
		}},
		{"MountedPartition", func(t *testing.T) (string, []string) {
			part := partition(t, loop(t, image(t, 32*mib), "-P"), mib, 16*mib)
			return part, []string{"it is mounted at " + mounted(t, part)}
		}},
		{"PartitionOfMountedDisk", func(t *testing.T) (string, []string) {
			disk := loop(t, image(t, 32*mib), "-P")
			part := partition(t, disk, mib, 16*mib)
			return part, []string{"its disk " + filepath.Base(disk) + " is mounted at " + mounted(t, disk)}
		}},
		{"Swap", func(t *testing.T) (string, []string) {
			dev := loop(t, image(t, 16*mib))
			run(t, "mkswap", dev)
			run(t, "swapon", dev)
			t.Cleanup(func() { run(t, "swapoff", dev) })
			return dev, []string{"it is used as swap", "swapoff " + dev}
		}},
		{"ExclusiveOpen", func(t *testing.T) (string, []string) {
			dev := loop(t, image(t, mib))
			f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_EXCL, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return dev, []string{"held open exclusively"}
		}},
		{"FileOfLoop", func(t *testing.T) (string, []string) {
			file := image(t, mib)
			dev := loop(t, file)
			return file, []string{"attached to " + dev, "losetup -d " + dev}
		}},
		{"FileOfMountedLoop", func(t *testing.T) (string, []string) {
			file := image(t, 16*mib)
			dev := loop(t, file)
			return file, []string{"attached to " + dev, "which is mounted at " + mounted(t, dev)}
		}},
		{"DeviceUnderLoop", func(t *testing.T) (string, []string) {
			dev := loop(t, image(t, mib))
			return dev, []string{"attached to " + loop(t, dev)}
		}},
		{"LockedLikeVirtualMachine", func(t *testing.T) (string, []string) {
			dev := loop(t, image(t, mib))
			lockBytes(t, dev, 100, 1)
			return dev, []string{"virtual machine"}
		}},
		{"LockedFile", func(t *testing.T) (string, []string) {
			file := image(t, mib)
			lockBytes(t, file, 201, 1)
			return file, []string{"virtual machine"}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			target, words := tt.setup(t)
			swap := tt.name == "Swap" // here the kernel refuses to write, but only then
			if !swap {
				damage(t, target)
			}
			size := sizeOf(t, target)
			_, err := OpenWrite(target, WriteOptions{Size: size, Lead: true, Claim: Token{1}})
			wantError(t, err, ErrBusy, target, words...)

			o, err := OpenWrite(target, WriteOptions{Size: size, Lead: true, Claim: Token{1}, Force: true})
			if err != nil {
				t.Fatalf("by force: %v", err)
			}
			defer o.Abort()
			if len(o.Notices()) != 1 || !strings.Contains(o.Notices()[0], "by force") {
				t.Errorf("by force: notices %q", o.Notices())
			}
			p := make([]byte, 512)
			if _, err := o.ReadAt(p, 0); err != nil {
				t.Error(err)
			}
			if _, err := o.WriteAt(p, 0); swap && !errors.Is(err, ErrBusy) || !swap && err != nil {
				t.Error(err)
			}
		})
	}
}

// lockBytes takes the kind of lock a virtual machine has on its image.
func lockBytes(t *testing.T, path string, start, n int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := lock(f, unix.F_RDLCK, start, n); err != nil {
		t.Fatal(err)
	}
}

func TestOpenWrite_InUseByOtherProcess(t *testing.T) {
	require.Need(t, require.Root, require.Loop)
	dev := loop(t, image(t, mib))
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestHoldExclusively$")
	cmd.Env = append(os.Environ(), "DEVICE_TEST_HOLD="+dev)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_, err = OpenWrite(dev, WriteOptions{Size: mib})
	wantError(t, err, ErrBusy, dev, "exclusively")
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	o, err := OpenWrite(dev, WriteOptions{Size: mib})
	if err != nil {
		t.Fatal(err)
	}
	o.Abort()
}

// TestHoldExclusively is the other process: it holds a device until its standard
// input ends.
func TestHoldExclusively(t *testing.T) {
	dev := os.Getenv("DEVICE_TEST_HOLD")
	if dev == "" {
		return
	}
	o, err := OpenWrite(dev, WriteOptions{Size: mib})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Abort()
	os.Stdout.WriteString("x")
	os.Stdin.Read(make([]byte, 1))
}

// While a target is being written nobody else gets it: not by mount, not by
// another copy.
func TestOpenWrite_Claims(t *testing.T) {
	require.Need(t, require.Root, require.Loop, require.Mount, require.Mkfs)
	dev := loop(t, image(t, 16*mib))
	run(t, "mkfs.ext4", "-q", "-F", dev)
	o, err := OpenWrite(dev, WriteOptions{Size: 16 * mib})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Abort()
	mount, _ := require.Program("mount")
	if out, err := exec.Command(mount, dev, t.TempDir()).CombinedOutput(); err == nil {
		t.Error("mounted while being written")
	} else if !strings.Contains(string(out), "already mounted") && !strings.Contains(string(out), "busy") {
		t.Errorf("mount: %s", out)
	}
	_, err = OpenWrite(dev, WriteOptions{Size: 16 * mib})
	wantError(t, err, ErrBusy, dev)
}

func TestOpenWrite_ReadOnlyDevice(t *testing.T) {
	require.Need(t, require.Root, require.Loop)
	dev := loop(t, image(t, mib), "-r")
	if info, err := Stat(dev); err != nil || !info.ReadOnly {
		t.Fatalf("%+v, %v", info, err)
	}
	for _, force := range []bool{false, true} {
		_, err := OpenWrite(dev, WriteOptions{Size: mib, Force: force})
		wantError(t, err, ErrReadOnly, dev)
	}
	o, err := OpenRead(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if !o.Info().ReadOnly {
		t.Error("not known as read-only once open")
	}
}

func TestOpenWrite_DeviceSize(t *testing.T) {
	require.Need(t, require.Root, require.Loop)
	dev := loop(t, image(t, mib))
	tests := []struct {
		name   string
		size   int64
		ignore bool
		usable int64 // -1: refused
		words  []string
	}{
		{"Equal", mib, false, mib, nil},
		{"TooSmall", mib + 512, false, -1, []string{"1048576", "1049088"}},
		{"TooLarge", mib - 512, false, -1, []string{"1048576", "1048064"}},
		{"EmptySource", 0, false, -1, []string{"1048576"}},
		{"Unknown", -1, true, -1, nil},
		{"IgnoreTooSmall", mib + 512, true, mib, []string{"first 1048576 of 1049088"}},
		{"IgnoreTooLarge", mib - 512, true, mib - 512, []string{"first 1048064", "last 512"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := OpenWrite(dev, WriteOptions{Size: tt.size, IgnoreSize: tt.ignore})
			if tt.usable < 0 {
				kind := ErrSizeMismatch
				if tt.size < 0 {
					kind = ErrRefused
				}
				wantError(t, err, kind, dev, tt.words...)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer o.Abort()
			if o.Size() != tt.usable || o.Info().Size != mib {
				t.Errorf("usable %d of %d, want %d", o.Size(), o.Info().Size, tt.usable)
			}
			for _, word := range tt.words {
				if !strings.Contains(strings.Join(o.Notices(), " "), word) {
					t.Errorf("notices %q do not say %q", o.Notices(), word)
				}
			}
			if _, err := o.WriteAt([]byte{1}, tt.usable); !errors.Is(err, ErrRefused) {
				t.Errorf("writing behind the common part: %v", err)
			}
			if err := o.Zero(tt.usable-512, 1024); !errors.Is(err, ErrRefused) {
				t.Errorf("zeroing behind the common part: %v", err)
			}
		})
	}
}
