//go:build vm

package inside

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// watched is one run on a target that ends before it is complete: what it was told, and its name.
func watched(t *testing.T, path string) (*wire.Proof, wire.Claim) {
	t.Helper()
	s, err := opened(t, path, number(t, run(t, "blockdev", "--getsize64", path)), true)
	if err != nil {
		t.Fatal(err)
	}
	var name wire.Claim
	rand.Read(name[:])
	p, err := s.Trust(t.Context(), name)
	if err != nil || !p.Able {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := s.Close(t.Context(), false, 0); err != nil {
		t.Fatal(err)
	}
	return p, name
}

// scribbled writes to a device past the cache.
func scribbled(t *testing.T, path string) {
	t.Helper()
	run(t, "dd", "if=/dev/urandom", "of="+path, "bs=4096", "count=1", "seek=9", "oflag=direct", "conv=notrunc")
}

// Who writes to a SCSI disk, to a volume on it or to the disk below a volume, or gives the volume another table, leaves no
// proof; left alone there is one, and it says what it does not see.
func TestTrust_Layers(t *testing.T) {
	t.Setenv("BLOCKDEV_WITNESS_DIR", t.TempDir())
	disk := scsi(t, "")
	half := sectors(scsiSize / 2)
	table := "0 " + half + " linear " + disk + " 0"
	volume := func(t *testing.T) string { return dm(t, "watched", table) }
	for _, c := range []struct {
		name  string
		write func(t *testing.T, target string)
		seen  string // empty for nothing
	}{
		{"Nothing", func(*testing.T, string) {}, ""},
		{"Itself", func(t *testing.T, target string) { scribbled(t, target) }, "what was written to"},
		{"Above", func(t *testing.T, target string) {
			run(t, "dmsetup", "create", "above", "--table", "0 8 linear "+target+" 0")
			run(t, "dd", "if=/dev/urandom", "of=/dev/mapper/above", "bs=4096", "count=1", "oflag=direct", "conv=notrunc")
			run(t, "dmsetup", "remove", "above")
		}, "what was written to"},
		{"Discard", func(t *testing.T, target string) { run(t, "blkdiscard", "-z", target) }, "what was written to"},
	} {
		t.Run("Disk/"+c.name, func(t *testing.T) { layer(t, disk, c.write, c.seen) })
		t.Run("Volume/"+c.name, func(t *testing.T) { layer(t, volume(t), c.write, c.seen) })
	}
	t.Run("Volume/Below", func(t *testing.T) {
		layer(t, volume(t), func(t *testing.T, _ string) { scribbled(t, disk) }, "what was written to sd")
	})
	t.Run("Volume/Table", func(t *testing.T) {
		layer(t, volume(t), func(t *testing.T, target string) { reload(t, target, "0 "+half+" linear "+disk+" 8") }, "the table of dm-")
	})
}

func layer(t *testing.T, target string, write func(t *testing.T, target string), seen string) {
	t.Helper()
	_, a := watched(t, target)
	again, b := watched(t, target)
	if again.Since != a {
		t.Fatalf("nobody has written, and it says %+v", again)
	}
	write(t, target)
	p, _ := watched(t, target)
	if proved := p.Since == b; proved != (seen == "") || !strings.Contains(p.Doubt, seen) {
		t.Errorf("%+v", p)
	}
}
