package device

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// The rules of thin volumes on a loop device, whose discard frees space too. Real volumes are tested in fstests/vm.
func TestObject_Thin(t *testing.T) {
	const size, chunk = 8 * mib, 256 << 10
	file := image(t, size)
	model := pattern(size)
	writeFile(t, file, model)
	o, err := OpenWrite(loop(t, file), WriteOptions{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Abort()
	o.thin.chunk = chunk
	zero := func(off, n int64, freed int64) {
		t.Helper()
		before := onDisk(t, file)
		if err := o.Zero(off, n); err != nil {
			t.Fatal(err)
		}
		clear(model[off : off+n])
		if got := before - onDisk(t, file); got != freed {
			t.Errorf("%d bytes at %d freed %d bytes, want %d", n, off, got, freed)
		}
	}
	reclaim := func(off, n int64, freed int64) {
		t.Helper()
		before := onDisk(t, file)
		if err := o.Reclaim(t.Context(), off, n); err != nil {
			t.Fatal(err)
		}
		if got := before - onDisk(t, file); got != freed {
			t.Errorf("reclaimed %d bytes, want %d", got, freed)
		}
	}
	zero(0, mib, mib)
	zero(mib-512, chunk, 0)           // all but the last sector of a chunk
	zero(3*mib-1, 2*chunk+2, 2*chunk) // whole chunks and a byte on either side
	zero(4*mib, chunk/2, 0)
	zero(4*mib+chunk/2, chunk/2, 0) // now nothing is left of it
	zero(5*mib, chunk-1, 0)
	flushed := func() int64 {
		t.Helper()
		return integerOf(t, strings.Fields(text("/sys/block", filepath.Base(o.Path()), "stat"))[15])
	}
	before := flushed()
	reclaim(4*mib+1, mib, 0) // not all of a chunk lies in the range
	if now := flushed(); now != before {
		t.Errorf("%d syncs, and nothing was freed", now-before)
	}
	reclaim(0, size, chunk)
	if flushed() == before {
		t.Error("what was freed is not durable")
	}
	reclaim(0, size, 0)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	zero(6*mib, 512, 0)
	if err := o.Reclaim(ended, 0, size); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := o.Sync(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, model) {
		t.Errorf("content differs from the model: %v", err)
	}
}

// A disk that refuses at run time to free space fails a copy that insists on it, and gets zeros otherwise.
func TestObject_ThinRefuses(t *testing.T) {
	const size, chunk = 4 * mib, 256 << 10
	for _, mode := range []ZeroMode{ZeroAuto, ZeroPunch} {
		file := filepath.Join(mountFS(t, "ramfs", "mode=700"), "backing.img") // which has no holes
		writeFile(t, file, pattern(size))
		dev := loop(t, file)
		o, err := OpenWrite(dev, WriteOptions{Size: size})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		o.thin.chunk, o.zero = chunk, mode
		pieces := func() error {
			for _, off := range []int64{0, chunk / 2} {
				if err := o.Zero(2*mib+off, chunk/2); err != nil {
					return err
				}
			}
			return o.Reclaim(t.Context(), 0, size)
		}
		for name, err := range map[string]error{"whole": o.Zero(mib, mib), "pieces": pieces()} {
			if mode == ZeroPunch {
				wantError(t, err, ErrUnsupported, dev, "zero = punch", "could not be freed")
			} else if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Who may not ask the device mapper cannot write what LVM's names call a thin volume, or what is made of one.
func TestKernel_RefuseStale(t *testing.T) {
	k := fakeKernel(t)
	k.add(t, map[string]string{
		"sys/devices/dm-7/dev":                 "253:7",
		"sys/devices/dm-7/dm/name":             "vg-pool-tpool",
		"sys/devices/dm-7/dm/uuid":             "LVM-abc-tpool",
		"sys/devices/dm-5/dev":                 "253:5",
		"sys/devices/dm-5/dm/name":             "vg-thin",
		"sys/devices/dm-5/slaves/dm-7/dm/uuid": "LVM-abc-tpool",
		"sys/devices/md9/dev":                  "9:9",
		"sys/devices/md9/slaves/x":             "",
		"sys/devices/md9/md9p1/partition":      "1",
		"sys/devices/dm-6/dev":                 "253:6",
		"sys/devices/dm-6/dm/name":             "crypt",
		"sys/devices/dm-6/slaves/x":            "",
	})
	dir := func(name string) string { return filepath.Join(k.sys, "devices", name) }
	for link, to := range map[string]string{"md9/slaves/dm-5": "dm-5", "dm-6/slaves/md9p1": "md9/md9p1"} {
		if err := os.Symlink(dir(to), dir(link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, refused := range map[string]bool{
		"dm-5": true, "md9": true, "md9/md9p1": true, "dm-6": true, "dm-7": false, "sda": false, "sda/sda1": false, "dm-0": false,
	} {
		err := k.refuseStale("/dev/x", dir(name))
		if !refused && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if refused {
			wantError(t, err, ErrPermission, "/dev/x", "only root can find out")
		}
	}
}

// integerOf reads a number.
func integerOf(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestParseTable(t *testing.T) {
	spec := func(next uint32, kind, params string) []byte {
		b := make([]byte, 40)
		binary.NativeEndian.PutUint32(b[20:], next)
		copy(b[24:], kind)
		return append(append(b, params...), 0)
	}
	first := spec(48, "thin", "253:0 7")
	list := append(first, spec(96, "error", "")...)
	got, err := parseTable(list, 2)
	want := []dmTarget{{"thin", []string{"253:0", "7"}}, {"error", []string{""}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, c := range []struct {
		name  string
		list  []byte
		count int
	}{{"Empty", nil, 1}, {"Short", list[:60], 2}, {"PastTheEnd", spec(1<<31, "thin", "1:1"), 2}} {
		if got, err := parseTable(c.list, c.count); err == nil {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}
