package witness_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/witness"
)

// Who writes after the transfer has done so last, and before its end, makes that no proof; what a follower has written is
// known from it, unless it was killed. The next run is told why there is none.
func TestEnd(t *testing.T) {
	t.Setenv("BLOCKDEV_WITNESS_DIR", t.TempDir())
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	disk := loop(t)
	for name, c := range map[string]struct {
		path  string
		write func(o *device.Object)
		good  bool
	}{
		"image":               {image, func(*device.Object) {}, true},
		"image, written":      {image, func(*device.Object) { poke(t, image, 0, 0).Close() }, false},
		"image, direct":       {image, func(*device.Object) { poke(t, image, 0, unix.O_DIRECT).Close() }, false},
		"image, looked at":    {image, func(*device.Object) { look(t, image, "") }, true},
		"image, then written": {image, func(*device.Object) { look(t, image, "x") }, false},
		"device":              {disk.path, func(*device.Object) {}, true},
		"device, written":     {disk.path, func(*device.Object) { poke(t, disk.path, 0, 0).Close() }, false},
		"device, direct":      {disk.path, func(*device.Object) { poke(t, disk.path, 0, unix.O_DIRECT).Close() }, false},
		"partition, direct":   {disk.path, func(*device.Object) { poke(t, disk.part, 0, unix.O_DIRECT).Close() }, false},
		"follower":            {image, func(o *device.Object) { follow(t, o, true) }, true},
		"follower, killed":    {image, func(o *device.Object) { follow(t, o, false) }, false},
	} {
		o := open(t, c.path)
		w, _, err := witness.Begin(o, witness.Run{1})
		if err == nil {
			_, err = o.WriteAt([]byte("x"), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
		c.write(o)
		none := w.End(o)
		_, found, err := witness.Begin(o, witness.Run{2})
		if err != nil || (none == nil) != c.good || none != nil && !strings.Contains(found.Doubt, "left no proof: "+none.Error()) {
			t.Errorf("%s: %v, and the next run is told %+v, %v", name, none, found, err)
		}
		o.Close()
	}
}

// look opens the target for a moment, as the next run of the transfer does to find out whether it is free, and writes
// that to it before it closes it.
func look(t *testing.T, path, text string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() {
		_, err := f.WriteString(text)
		if err = errors.Join(err, f.Close()); err != nil {
			t.Error(err)
		}
	})
}

// follow writes as a follower, and has it end, or as if it was killed.
func follow(t *testing.T, lead *device.Object, ends bool) {
	t.Helper()
	o, err := device.OpenWrite(lead.Path(), device.WriteOptions{Size: size, Claim: claim})
	if err == nil {
		_, err = o.WriteAt([]byte("x"), 4096)
	}
	if err != nil {
		t.Fatal(err)
	}
	if ends {
		witness.Follow(o)
	}
	o.Close()
}

// Followers are waited for, and none comes any more.
func TestSeal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	lead := device.WriteOptions{Size: size, Lead: true, Claim: device.Token{1}}
	o, err := device.OpenWrite(path, lead)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	lead.Lead = false
	follower, err := device.OpenWrite(path, lead)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Seal(50 * time.Millisecond); err == nil {
		t.Error("a follower still writes")
	}
	time.AfterFunc(100*time.Millisecond, func() { follower.Close() })
	if err := o.Seal(5 * time.Second); err != nil {
		t.Error(err)
	}
	if more, err := device.OpenWrite(path, lead); err == nil {
		more.Close()
		t.Error("a follower came after the end")
	}
}
