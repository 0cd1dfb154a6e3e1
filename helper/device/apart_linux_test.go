package device

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// What is kept is not kept on the target itself: not even where a write to it is forced.
func TestApart(t *testing.T) {
	plain := func(t *testing.T, size int64) string { return loop(t, image(t, size)) }
	for _, c := range []struct {
		name  string
		setup func(t *testing.T) (target, dir, on string) // on is empty where it is allowed
	}{
		{"OnTarget", func(t *testing.T) (string, string, string) {
			dev := plain(t, 16*mib)
			return dev, mounted(t, dev), dev
		}},
		{"OnItsPartition", func(t *testing.T) (string, string, string) {
			disk := loop(t, image(t, 32*mib), "-P")
			part := partition(t, disk, mib, 16*mib)
			return disk, mounted(t, part), part
		}},
		{"OnItsDisk", func(t *testing.T) (string, string, string) {
			disk := loop(t, image(t, 32*mib), "-P")
			part := partition(t, disk, mib, 16*mib)
			return part, mounted(t, disk), disk
		}},
		{"InTheImage", func(t *testing.T) (string, string, string) {
			file := image(t, 16*mib)
			dev := loop(t, file)
			return file, mounted(t, dev), dev
		}},
		{"InAnImageInTheImage", func(t *testing.T) (string, string, string) {
			dev := plain(t, 32*mib)
			inner := filepath.Join(mounted(t, dev), "inner")
			if err := os.WriteFile(inner, make([]byte, 8*mib), 0o600); err != nil {
				t.Fatal(err)
			}
			above := loop(t, inner)
			return dev, mounted(t, above), above
		}},
		{"Btrfs", func(t *testing.T) (string, string, string) {
			require.Need(t, require.Mount, require.Btrfs)
			first, second := plain(t, 128*mib), plain(t, 128*mib)
			run(t, "mkfs.btrfs", "-q", "-f", first, second)
			dir := t.TempDir()
			run(t, "mount", "-o", "device="+second, first, dir)
			t.Cleanup(func() { run(t, "umount", dir) })
			run(t, "btrfs", "subvolume", "create", dir+"/sub")
			return second, dir + "/sub", second
		}},
		{"BesideIt", func(t *testing.T) (string, string, string) {
			disk := loop(t, image(t, 48*mib), "-P")
			part := partition(t, disk, mib, 16*mib)
			run(t, "addpart", disk, "2", "65536", "16384")
			t.Cleanup(func() { run(t, "delpart", disk, "2") })
			return disk + "p2", mounted(t, part), ""
		}},
		{"BesideAnImage", func(t *testing.T) (string, string, string) {
			file := image(t, mib)
			return file, filepath.Dir(file), ""
		}},
		{"BesideTheFileOfTheDevice", func(t *testing.T) (string, string, string) {
			file := image(t, mib)
			return loop(t, file), filepath.Dir(file), ""
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			target, dir, on := c.setup(t)
			info, err := Stat(target)
			if err != nil {
				t.Fatal(err)
			}
			o, err := OpenWrite(target, WriteOptions{Size: info.Size, Force: true, Prepare: func(o *Object) error { return o.Apart(dir) }})
			if o != nil {
				o.Close()
			}
			switch {
			case on == "" && err != nil:
				t.Errorf("refused: %v", err)
			case on != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), dir+": is on "+on+", ") || !strings.Contains(err.Error(), target)):
				t.Errorf("got %v", err)
			}
		})
	}
}
