package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestImage(t *testing.T) {
	const n = 8<<20 + 5000
	dir := t.TempDir()
	image, again := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, name := range []string{image, again} {
		if err := makeImage(t.Context(), name, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := compare(image, again); err != nil {
		t.Errorf("two images are not the same: %v", err)
	}
	before, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := changeImage(image, n); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != n || len(after) != n {
		t.Fatalf("sizes %d and %d, want %d", len(before), len(after), n)
	}
	changed := 0
	for off := 0; off < n; off += blockSize {
		if end := min(off+blockSize, n); !bytes.Equal(before[off:end], after[off:end]) {
			changed++
		}
	}
	if changed < 10 || changed > 20 {
		t.Errorf("%d of %d blocks changed, want 1 %%", changed, n/blockSize)
	}
	if compare(image, again) == nil {
		t.Error("a change is not found")
	}
}

func TestCompare(t *testing.T) {
	long := bytes.Repeat([]byte{7}, areaSize+1)
	for _, c := range []struct {
		name string
		a, b []byte
		same bool
	}{
		{"Empty", nil, nil, true},
		{"Same", long, long, true},
		{"Shorter", long, long[:areaSize], false},
		{"Longer", long[:areaSize], long, false},
		{"LastByte", long, append(long[:areaSize:areaSize], 8), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
			for name, data := range map[string][]byte{a: c.a, b: c.b} {
				if err := os.WriteFile(name, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := compare(a, b); (err == nil) != c.same {
				t.Errorf("got %v, same is %v", err, c.same)
			}
		})
	}
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		text string
		n    size
		back string
	}{
		{"65536", 64 << 10, "64.0 KiB"},
		{"64k", 64 << 10, "64.0 KiB"},
		{"1500K", 1500 << 10, "1.46 MiB"},
		{"1G", 1 << 30, "1.00 GiB"},
		{"1T", 1 << 40, "1.00 TiB"},
		{"999M", 999 << 20, "999 MiB"},
	} {
		var n size
		if err := n.Set(c.text); err != nil || n != c.n || n.String() != c.back {
			t.Errorf("%s: %d, %s, %v; want %d, %s", c.text, n, n, err, c.n, c.back)
		}
	}
	for _, text := range []string{"", "G", "-1M", "0", "1", "1025G", "9999999999T", "1.5G", "1 G"} {
		var n size
		if err := n.Set(text); err == nil {
			t.Errorf("%q is accepted as %d", text, n)
		}
	}
	if got := size(0).String(); got != "0 B" {
		t.Errorf("0 is %s", got)
	}
}
