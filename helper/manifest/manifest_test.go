package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// sample is a manifest of three extents, of which the second is zero and the last one short.
func sample(t testing.TB) (Header, []block.Digest, []byte) {
	t.Helper()
	h := Header{BlockSize: 4096, Size: 2<<20 + 500, Of: 3 << 20, Time: time.Unix(1, 2), Path: "/dev/sda", IDs: []string{"serial=A1", "wwn=0x5"}}
	digests := []block.Digest{block.Sum([]byte("first")), block.ZeroExtent(1<<20, 4096), block.Sum([]byte("last"))}
	return h, digests, encode(t, h, digests)
}

func encode(t testing.TB, h Header, digests []block.Digest) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range digests {
		if err := w.Add(d); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(b []byte) (*Manifest, error) { return Read(bytes.NewReader(b), int64(len(b))) }

// The bytes are those of the table in docs/receipts.md.
func TestWriter_Bytes(t *testing.T) {
	_, digests, got := sample(t)
	head := "8942444d0d0a1a0a" + "00000001" + "00001000" + "00100000" + "00000000002001f4" + "0000000000300000" + "000000003b9aca02" +
		"0008" + hex.EncodeToString([]byte("/dev/sda")) + "0002" + "0009" + hex.EncodeToString([]byte("serial=A1")) + "0007" + hex.EncodeToString([]byte("wwn=0x5"))
	want, err := hex.DecodeString(head)
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, digests[0][:]...)
	want = append(want, make([]byte, 32)...)
	want = append(want, digests[2][:]...)
	root := sha256.New()
	root.Write([]byte{0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0x20, 1, 0xf4})
	for _, d := range digests {
		root.Write(d[:])
	}
	want = root.Sum(want)
	sum := sha256.Sum256(want)
	want = append(want, sum[:]...)
	if !bytes.Equal(got, want) {
		t.Errorf("%x\nwant\n%x", got, want)
	}
}

func TestRead(t *testing.T) {
	h, digests, b := sample(t)
	m, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	if m.BlockSize != h.BlockSize || m.Size != h.Size || m.Of != h.Of || !m.Time.Equal(h.Time) || m.Path != h.Path || !slices.Equal(m.IDs, h.IDs) {
		t.Errorf("%+v", m.Header)
	}
	for _, i := range []int64{0, 1, 2, 1, 0} {
		d, err := m.Digest(i)
		zero, _ := m.Zero(i)
		if err != nil || d != digests[i] || zero != (i == 1) {
			t.Errorf("extent %d: %x, zero %v, %v", i, d, zero, err)
		}
	}
	for _, i := range []int64{-1, 3} {
		if _, err := m.Digest(i); err == nil {
			t.Errorf("there is no extent %d", i)
		}
	}
	if root, err := m.RootOf(0, m.Size); err != nil || root != m.Root {
		t.Errorf("%v", err)
	}
	r := block.Range{Length: m.Size - 1<<20, BlockSize: 4096}
	sum := block.NewRootHash(r)
	sum.Add(digests[1])
	sum.Add(digests[2])
	if root, err := m.RootOf(1<<20, r.Length); err != nil || root != sum.Sum() {
		t.Errorf("root of a part: %v", err)
	}
	for _, part := range [][2]int64{{1, 1 << 20}, {0, 500}, {0, 3 << 20}, {-1 << 20, 1 << 20}, {1 << 62, 1 << 62}} {
		if _, err := m.RootOf(part[0], part[1]); err == nil {
			t.Errorf("%v is no part", part)
		}
	}
}

// Many digests, so that they are read in several pieces; and none at all.
func TestRead_Sizes(t *testing.T) {
	for _, extents := range []int64{0, 1, readAhead, readAhead + 1, 3*readAhead + 7} {
		h := Header{BlockSize: 512, Size: extents << 20, Of: extents << 20}
		var digests []block.Digest
		for i := range extents {
			digests = append(digests, block.Sum(binary.BigEndian.AppendUint64(nil, uint64(i))))
		}
		m, err := read(encode(t, h, digests))
		if err != nil {
			t.Fatal(err)
		}
		for i := range extents {
			if d, err := m.Digest(i); err != nil || d != digests[i] {
				t.Fatalf("%d of %d: %v", i, extents, err)
			}
		}
	}
}

// seal gives bytes that were changed a sum that is right.
func seal(b []byte) []byte {
	b = bytes.Clone(b[:len(b)-32])
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func TestRead_Err(t *testing.T) {
	h, digests, good := sample(t)
	headSize := len(good) - 5*32
	set := func(at int, bytes ...byte) []byte {
		b := slices.Clone(good)
		copy(b[at:], bytes)
		return seal(b)
	}
	zero := block.ZeroExtent(1<<20, 4096)
	tests := map[string][]byte{
		"empty":                nil,
		"other file":           []byte("#!/bin/sh\n"),
		"magic alone":          good[:8],
		"header cut":           good[:40],
		"header alone":         good[:headSize],
		"a digest missing":     slices.Concat(good[:headSize], good[headSize+32:]),
		"a byte missing":       good[:len(good)-1],
		"a byte more":          append(slices.Clone(good), 0),
		"version":              set(11, 2),
		"block size":           set(14, 0x11),
		"block size 0":         set(12, 0, 0, 0, 0),
		"extent size":          set(17, 0x20),
		"more than the device": set(28, 0, 0, 0, 0, 0, 0x10),
		"negative size":        set(20, 0xff),
		"huge size":            set(20, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0x3f),
		"path too long":        set(44, 0xff, 0xff),
		"path not for people":  set(46, 27),
		"path not UTF-8":       set(46, 0xff),
		"too many identities":  set(54, 0, 65),
		"zero as a digest":     set(headSize+32, zero[:]...),
		"root":                 set(len(good)-64, 1, 2, 3),
	}
	for name, b := range tests {
		if _, err := read(b); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for at := range good { // a flipped bit anywhere
		b := slices.Clone(good)
		b[at] ^= 0x10
		if _, err := read(b); !errors.Is(err, ErrFormat) {
			t.Fatalf("byte %d: %v", at, err)
		}
	}
	if _, err := NewWriter(io.Discard, Header{BlockSize: 1000}); !errors.Is(err, ErrFormat) {
		t.Errorf("%v", err)
	}
	if _, err := NewWriter(io.Discard, Header{BlockSize: 512, Size: -1}); !errors.Is(err, ErrFormat) {
		t.Errorf("%v", err)
	}
	w, err := NewWriter(io.Discard, h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(); err == nil {
		t.Error("finished without digests")
	}
	for range digests {
		_ = w.Add(zero)
	}
	if w.Add(zero) == nil {
		t.Error("one digest more")
	}
}

// Names of any kind are stored as far as they can be.
func TestWriter_Names(t *testing.T) {
	h := Header{BlockSize: 512, Path: "a\nb\xff" + strings.Repeat("\u00e4", MaxPath), IDs: append(slices.Repeat([]string{"x"}, MaxIDs), "y")}
	h.IDs[1], h.IDs[2] = "a\tb", strings.Repeat("z", MaxID+1)
	m, err := read(encode(t, h, nil))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(m.Path, "a?b?\u00e4") || len(m.Path) != MaxPath || len(m.IDs) != MaxIDs-1 || !slices.Contains(m.IDs, "y") {
		t.Errorf("%q %q", m.Path, m.IDs)
	}
}

// A failure to read is none of the format.
func TestRead_ErrIO(t *testing.T) {
	_, _, good := sample(t)
	bad := errors.New("bad sector")
	r := &failing{bytes.NewReader(good), bad}
	if _, err := Read(r, int64(len(good))); !errors.Is(err, bad) || errors.Is(err, ErrFormat) {
		t.Errorf("%v", err)
	}
}

type failing struct {
	*bytes.Reader
	err error
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if off > 0 {
		return 0, f.err
	}
	return f.Reader.ReadAt(p, off)
}

func TestStore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.manifest")
	_, _, good := sample(t)
	write := func(w io.Writer) error { _, err := w.Write(good); return err }
	if err := Store(path, write); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// What fails leaves what was there, and nothing else.
	full := errors.New("full")
	err = Store(path, func(w io.Writer) error { _, _ = w.Write(good[:9]); return full })
	if b, _ := os.ReadFile(path); !errors.Is(err, full) || !bytes.Equal(b, good) {
		t.Errorf("%v, %d bytes", err, len(b))
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%v", files)
	}
	m, err := Open(path)
	if err != nil || m.Path != "/dev/sda" {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// Only a manifest, or nothing, is replaced.
func TestReplaceable(t *testing.T) {
	dir := t.TempDir()
	_, _, good := sample(t)
	put := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Symlink(put("m", good), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for path, ok := range map[string]bool{
		filepath.Join(dir, "new"): true, put("m", good): true, put("empty", nil): true,
		put("image", make([]byte, 4096)): false, put("short", []byte("ab")): false, dir: false, filepath.Join(dir, "link"): false, os.DevNull: false,
	} {
		if err := Replaceable(path); (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestSpool(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	_, _, good := sample(t)
	m, err := Spool(iotest.OneByteReader(bytes.NewReader(good)), "standard input")
	if err != nil {
		t.Fatal(err)
	}
	if d, err := m.Digest(0); err != nil || d != block.Sum([]byte("first")) {
		t.Errorf("%v", err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for name, r := range map[string]io.Reader{
		"more":       io.MultiReader(bytes.NewReader(good), strings.NewReader("x")),
		"endless":    io.MultiReader(bytes.NewReader(good), zeros{}),
		"other data": zeros{},
		"cut":        bytes.NewReader(good[:len(good)-1]),
		"nothing":    strings.NewReader(""),
	} {
		if _, err := Spool(r, "standard input"); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "standard input") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if files, _ := os.ReadDir(os.TempDir()); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Whatever a manifest says, reading it ends without a panic and takes little memory; and what is accepted is written
// again as the same bytes.
func FuzzRead(f *testing.F) {
	_, _, good := sample(f)
	f.Add(good)
	f.Add(good[:50])
	f.Add(encode(f, Header{BlockSize: 512}, nil))
	f.Add(encode(f, Header{BlockSize: 1 << 20, Size: 1, Of: 2, IDs: []string{""}}, []block.Digest{block.ZeroSum(1)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, reseal(b)} {
			m, err := read(b)
			if err != nil {
				if !errors.Is(err, ErrFormat) {
					t.Fatal(err)
				}
				continue
			}
			var digests []block.Digest
			for i := range m.Extents() {
				d, err := m.Digest(i)
				if err != nil {
					t.Fatal(err)
				}
				digests = append(digests, d)
			}
			if again := encode(t, m.Header, digests); !bytes.Equal(again, b) {
				t.Fatalf("%x is written as %x", b, again)
			}
		}
	})
}

// reseal is b with a root and a sum that are right, so that what is read before them is tried as well.
func reseal(b []byte) []byte {
	h, at, err := parse(b)
	if err != nil || int64(len(b)) != h.length() {
		return b
	}
	root := block.NewRootHash(h.Range())
	for i := range h.Range().Extents() {
		d := block.Digest(b[at+int(i)*32:][:32])
		if _, length := h.Range().Extent(i); d == (block.Digest{}) {
			d = block.ZeroExtent(length, h.BlockSize)
		}
		root.Add(d)
	}
	b = bytes.Clone(b)
	sum := root.Sum()
	copy(b[len(b)-64:], sum[:])
	return seal(b)
}
