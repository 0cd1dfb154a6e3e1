package receipt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
)

const unit = 4096

// digest is a made up one of extent i in round n.
func digest(i int64, n int) block.Digest { return block.Sum(fmt.Appendf(nil, "%d %d", i, n)) }

// add adds the digests of round n of a part of the device.
func add(t *testing.T, k *Keeper, off, length int64, n int) {
	t.Helper()
	r := block.Range{Offset: off, Length: length, BlockSize: unit}
	var all []block.Digest
	for i := range r.Extents() {
		all = append(all, digest(off/block.ExtentSize+i, n))
	}
	if err := k.Add(r, all); err != nil {
		t.Fatal(err)
	}
}

func sample() *Receipt {
	return &Receipt{Program: "test", Source: End{Name: "a:/dev/sda", Kind: "device", Size: 600<<20 + 5}, Target: End{Name: "b:/dev/sdb", Kind: "device", Size: 600<<20 + 5, IDs: []string{"serial=1"}},
		Ended: time.Unix(1e9, 7)}
}

const size = 600<<20 + 5 // three stripes

// stored is a receipt in a new directory.
func stored(t *testing.T) (path string) {
	t.Helper()
	k, err := Keep(t.TempDir(), size, unit)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	add(t, k, 0, size, 1)
	if path, err = k.Write(sample(), manifest.Header{Path: "b:/dev/sdb"}); err != nil {
		t.Fatal(err)
	}
	return path
}

// Parts come in any order, and some of them again, in other pieces: the last digest of each extent counts.
func TestKeeper(t *testing.T) {
	dir := t.TempDir()
	k, err := Keep(dir, size, unit)
	if err != nil {
		t.Fatal(err)
	}
	add(t, k, 512<<20, size-512<<20, 1)
	add(t, k, 0, 256<<20, 1)
	add(t, k, 256<<20, 32<<20, 1)
	if _, err := k.Write(sample(), manifest.Header{}); err == nil {
		t.Error("written with digests missing")
	}
	add(t, k, 256<<20, 256<<20, 2)
	add(t, k, 576<<20, size-576<<20, 3)
	path, err := k.Write(sample(), manifest.Header{})
	k.Close()
	if err != nil {
		t.Fatal(err)
	}
	r, m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for i := range m.Extents() {
		want := digest(i, 1)
		if i >= 256 && i < 512 {
			want = digest(i, 2)
		} else if i >= 576 {
			want = digest(i, 3)
		}
		if d, err := m.Digest(i); err != nil || d != want {
			t.Fatalf("extent %d: %v", i, err)
		}
	}
	stripe := block.NewRootHash(block.Range{Length: 256 << 20, BlockSize: unit})
	for i := range int64(256) {
		stripe.Add(digest(256+i, 2))
	}
	if len(r.Stripes) != 3 || r.Stripes[1] != Hex(stripe.Sum()) || r.Root != Hex(m.Root) || r.Size != size || !r.Ended.Equal(time.Unix(1e9, 7)) {
		t.Errorf("%+v", r)
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("%v", files)
	}
}

func TestKeeper_Err(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{"no directory": filepath.Join(dir, "none", "r.json"), "no extension": filepath.Join(dir, "r"), "is there": stored(t)} {
		if _, err := Keep(path, 1, unit); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	k, err := Keep(filepath.Join(dir, "r.json"), size, unit)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for _, r := range []block.Range{{Offset: 1, Length: 1 << 20, BlockSize: unit}, {Length: 5, BlockSize: unit}, {Offset: 600 << 20, Length: 1 << 20, BlockSize: unit}, {Length: 1 << 20, BlockSize: 512}} {
		if k.Add(r, make([]block.Digest, r.Extents())) == nil {
			t.Errorf("added %+v", r)
		}
	}
	if k.Add(block.Range{Length: 1 << 20, BlockSize: unit}, nil) == nil {
		t.Error("added nothing for something")
	}
	add(t, k, 0, size, 1)
	if err := os.WriteFile(filepath.Join(dir, "r.json"), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Write(sample(), manifest.Header{}); err == nil {
		t.Error("replaced what has appeared")
	}
}

// Names sort by device and time, and lead nowhere else.
func TestName(t *testing.T) {
	at := time.Unix(1e9, 5)
	names := []string{
		Name("vmhost:/dev/sda", at), Name("vmhost:/dev/sda", at.Add(time.Nanosecond)), Name("vmhost:/dev/sda", at.Add(time.Hour)),
		Name("vmhost:/dev/sdb", at), Name("vmhost:/dev/sdb", at.AddDate(1, 0, 0)),
	}
	if !slices.IsSorted(names) || names[0] != "vmhost__dev_sda-"+names[0][16:24]+"-20010909T014640.000000005Z" {
		t.Errorf("%q", names)
	}
	if Name("a:/b/c", at) == Name("a:/b_c", at) {
		t.Error("two devices of one name")
	}
	for _, device := range []string{"../../etc/passwd", "..", "/", "", "a:/\x00\n", `c:\windows`, strings.Repeat("x/", 500), "ä"} {
		name := Name(device, at)
		if name != filepath.Base(name) || strings.ContainsAny(name, `/\:`) || strings.HasPrefix(name, ".") || len(name) > 150 {
			t.Errorf("%q becomes %q", device, name)
		}
	}
	// Two at one moment.
	dir := t.TempDir()
	var paths []string
	for range 3 {
		k, err := Keep(dir, 0, unit)
		if err != nil {
			t.Fatal(err)
		}
		path, err := k.Write(sample(), manifest.Header{})
		k.Close()
		if err != nil || slices.Contains(paths, path) {
			t.Errorf("%s, %v", path, err)
		}
		paths = append(paths, path)
	}
	if !slices.IsSorted(paths) {
		t.Errorf("%q", paths)
	}
}

func TestOpen_Err(t *testing.T) {
	good := stored(t)
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Receipt){
		"version":          func(r *Receipt) { r.Version = 2 },
		"block size":       func(r *Receipt) { r.BlockSize = 1000 },
		"other block size": func(r *Receipt) { r.BlockSize = 512 },
		"extents":          func(r *Receipt) { r.ExtentSize++ },
		"size":             func(r *Receipt) { r.Size-- },
		"negative size":    func(r *Receipt) { r.Size = -1 },
		"stripes":          func(r *Receipt) { r.Stripes = r.Stripes[1:] },
		"stripe":           func(r *Receipt) { r.Stripes[2] = r.Stripes[1] },
		"root":             func(r *Receipt) { r.Root = r.Stripes[0] },
		"no root":          func(r *Receipt) { r.Root = "abc" },
		"manifest":         func(r *Receipt) { r.Manifest = "../" + r.Manifest },
		"no manifest":      func(r *Receipt) { r.Manifest = "" },
		"sum":              func(r *Receipt) { r.ManifestSum = r.Root },
	} {
		var r Receipt
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatal(err)
		}
		change(&r)
		b, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(good, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Open(good); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), good) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{"nothing": nil, "cut": text[:len(text)-4], "other": []byte(`{"a":1}`), "more": append(bytes.Clone(text), "{}"...)} {
		if err := os.WriteFile(good, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Open(good); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The manifest of another receipt.
	if err := os.WriteFile(good, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r, m, err := Open(good)
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if err := os.Remove(filepath.Join(filepath.Dir(good), r.Manifest)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(good); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// Whatever a receipt says, reading it ends without a panic.
func FuzzRead(f *testing.F) {
	text, err := json.Marshal(&Receipt{Version: 1, BlockSize: unit, ExtentSize: block.ExtentSize, StripeSize: block.StripeSize, Stripes: []string{strings.Repeat("0", 64)},
		Root: strings.Repeat("0", 64), ManifestSum: strings.Repeat("0", 64), Manifest: "m"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"size":9223372036854775807}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "r.json")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := Read(path); err == nil && filepath.Dir(filepath.Join("/x", r.Manifest)) != "/x" {
			t.Errorf("its manifest is %q", r.Manifest)
		} else if err != nil && !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
	})
}
