package device

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"reflect"
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
	reclaim(4*mib+1, mib, 0) // not all of a chunk lies in the range
	reclaim(0, size, chunk)
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
	want := []target{{"thin", []string{"253:0", "7"}}, {"error", []string{""}}}
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
