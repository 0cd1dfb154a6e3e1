package device

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// alignedMiB is memory that direct reads take.
func alignedMiB() []byte {
	buf := make([]byte, mib+directUnit)
	skip := -uintptr(unsafe.Pointer(&buf[0])) % directUnit
	return buf[skip : skip+mib : skip+mib]
}

// What is read past the cache is what is on the device, also where some of it is only in the cache, and nothing is
// added to the cache while it is read.
func TestReadPast(t *testing.T) {
	f := fill(t, cacheObjects(t)["device"])
	content := make([]byte, cacheTestSize)
	rand.NewChaCha8([32]byte{1}).Read(content)
	before := cachedPages(t, f)
	o, err := OpenRead(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	o.info.Rotational = false // as loop devices are on some machines
	o.ReadPast(DirectAuto)
	if o.direct.f == nil {
		t.Fatal("the device cannot be read past the cache")
	}
	buf := alignedMiB()
	read := func(p []byte, off int64) {
		t.Helper()
		if n, err := o.ReadAt(p, off); err != nil || !bytes.Equal(p[:n], content[off:off+int64(len(p))]) {
			t.Fatalf("%d bytes at %d: %d, %v, or not what is there", len(p), off, n, err)
		}
	}
	for off := int64(0); off < cacheTestSize; off += mib {
		read(buf, off)
	}
	if now := cachedPages(t, f); !slices.Equal(now, before) {
		t.Errorf("pages cached after reading:\n%v, before:\n%v", now, before)
	}
	if o.direct.fail.Load() {
		t.Error("reading past the cache was given up")
	}

	copy(content[30*mib:], "only in the cache")
	if _, err := f.WriteAt(content[30*mib:][:17], 30*mib); err != nil {
		t.Fatal(err)
	}
	read(buf, 30*mib)
	for range 100 { // what is not aligned goes through the cache
		off := rand.Int64N(cacheTestSize - mib)
		read(buf[rand.IntN(1<<12):][:rand.IntN(1<<18)], off)
	}
	o.direct.f.Close() // a direct read that fails is done through the cache
	read(buf, 40*mib)
}

func TestReadPast_Mode(t *testing.T) {
	objects := cacheObjects(t)
	for _, c := range []struct {
		object     string
		mode       Direct
		rotational bool
		torn       bool
		want       bool
	}{
		{"device", DirectAuto, false, false, true},
		{"device", DirectAuto, true, false, false},
		{"device", DirectAuto, false, true, false},
		{"device", DirectOn, true, true, true},
		{"device", DirectOff, false, false, false},
		{"file", DirectAuto, false, false, false},
		{"file", DirectOn, false, false, false},
	} {
		path := objects[c.object]
		fill(t, path)
		o, err := OpenRead(path)
		if err != nil {
			t.Fatal(err)
		}
		o.info.Rotational, o.torn = c.rotational, c.torn
		o.ReadPast(c.mode)
		if got := o.direct.f != nil; got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Of a target it counts that others may write it, not whether there is something to say of it: a device that is larger
// than its source is read past the cache, and a forced one is not, by further streams neither.
func TestReadPast_Target(t *testing.T) {
	const size = 4 * mib
	for _, forced := range []bool{false, true} {
		dev := loop(t, image(t, size))
		w := WriteOptions{Size: size / 2, IgnoreSize: true, Force: forced, Lead: true, Claim: Token{1}}
		for _, w.Lead = range []bool{true, false} {
			o, err := OpenWrite(dev, w)
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			o.info.Rotational = false
			o.ReadPast(DirectAuto)
			if got := o.direct.f != nil; got == forced {
				t.Errorf("forced %v, lead %v, notices %q: past the cache is %v", forced, w.Lead, o.Notices(), got)
			}
		}
	}
}
