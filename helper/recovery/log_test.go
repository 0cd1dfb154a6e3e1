package recovery

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
)

// subjectOf is a target in the tests.
func subjectOf(size int64) Subject {
	return Subject{Path: "/dev/vg0/vm", IDs: []string{"serial=1", "wwn=2"}, Size: size, Begun: time.Unix(0, 12345)}
}

// made is the log of three writes, with a sync after each, and what the target then has.
func made(t *testing.T, dir string) (path string, dev *memdev.Device, old []byte) {
	t.Helper()
	old = bytes.Repeat([]byte("what it was "), 1<<13)
	dev = memdev.FromBytes(slices.Clone(old))
	u, e, err := Begin(t.Context(), dir, subjectOf(int64(len(old))), Token{}, dev)
	if err != nil || e.Resumed {
		t.Fatal(e, err)
	}
	defer u.Close()
	k := u.Keep(dev)
	for i := range int64(3) {
		if _, err := k.WriteAt(bytes.Repeat([]byte{byte(i)}, 5000), i*20000+7); err != nil {
			t.Fatal(err)
		}
		if err := k.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	return u.log.Path(), dev, old
}

// find opens the log for an undo.
func find(dir string, size int) (*Restore, error) {
	return Find(dir, subjectOf(int64(size)), func(int64) error { return nil })
}

// A log that ends anywhere is torn there, and one that has another byte anywhere but in its last records is damaged: it
// never leads to other content than what was kept.
func TestLog_Damage(t *testing.T) {
	dir := t.TempDir()
	path, dev, old := made(t, dir)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	after := dev.Bytes()
	damaged, tried := 0, 0
	for i := 0; i < len(whole); i += 1 + i/200 {
		tried++
		changed := slices.Clone(whole)
		changed[i] ^= 0x10
		for name, data := range map[string][]byte{"cut": whole[:i], "changed": changed} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := find(dir, len(old))
			if err != nil {
				if errors.Is(err, ErrDamaged) {
					damaged++
				}
				continue
			}
			tgt := memdev.FromBytes(slices.Clone(after))
			if err := r.Check(t.Context(), tgt); err != nil {
				t.Fatalf("%s at %d: %v", name, i, err)
			}
			if err := r.Write(t.Context(), tgt); err != nil {
				t.Fatalf("%s at %d: %v", name, i, err)
			}
			for at, b := range tgt.Bytes() {
				if b != old[at] && b != after[at] {
					t.Fatalf("%s at %d: byte %d became neither", name, i, at)
				}
			}
			r.Close()
		}
	}
	if damaged < tried/3 {
		t.Errorf("%d of %d changed bytes are damage", damaged, tried)
	}
}

// A torn end is cut by who goes on, which then is no damage.
func TestLog_Torn(t *testing.T) {
	dir := t.TempDir()
	path, dev, old := made(t, dir)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	torn := appendRecord(nil, &record{kind: kindOld, n: 3000, payload: make([]byte, 3000)}, 0)
	if _, err := f.Write(torn[:2000]); err != nil {
		t.Fatal(err)
	}
	f.Close()
	u, e, err := Begin(t.Context(), dir, subjectOf(int64(len(old))), Token{}, dev)
	if err != nil || !e.Resumed {
		t.Fatal(e, err)
	}
	k := u.Keep(dev)
	if _, err := k.WriteAt([]byte("again"), 60000); err != nil {
		t.Fatal(err)
	}
	if err := k.Sync(); err != nil {
		t.Fatal(err)
	}
	u.Close()
	r, err := find(dir, len(old))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Check(t.Context(), dev); err != nil {
		t.Fatal(err)
	}
	if err := r.Begin(); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(t.Context(), dev); err != nil || !bytes.Equal(dev.Bytes(), old) {
		t.Errorf("%v, or not what it was", err)
	}
	if err := r.End(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A write that was torn within a sector run, in the copy or in the undo, is one that the log knows; another is not.
func TestRestore_TornWrite(t *testing.T) {
	dir := t.TempDir()
	_, dev, old := made(t, dir)
	after := dev.Bytes()
	mixed := slices.Clone(after)
	copy(mixed[512:1024], old[512:1024])
	for name, content := range map[string][]byte{"torn": mixed, "foreign": append(slices.Clone(after[:600]), append([]byte{0x77}, after[601:]...)...)} {
		r, err := find(dir, len(old))
		if err != nil {
			t.Fatal(err)
		}
		tgt := memdev.FromBytes(content)
		err = r.Check(t.Context(), tgt)
		if (name == "torn") != (err == nil) || err != nil && !errors.Is(err, ErrDiffers) {
			t.Errorf("%s: %v", name, err)
		}
		r.Close()
	}
}

// Another device with the same path is another subject, and one with another path and the same identities is not.
func TestFind_Subject(t *testing.T) {
	dir := t.TempDir()
	_, _, old := made(t, dir)
	for _, tt := range []struct {
		change func(*Subject)
		want   error
	}{
		{func(s *Subject) { s.Path = "/dev/dm-3" }, nil},
		{func(s *Subject) { s.IDs = nil }, nil},
		{func(s *Subject) { s.IDs = []string{"serial=2"} }, ErrNone},
		{func(s *Subject) { s.IDs, s.Path = nil, "/dev/dm-3" }, ErrNone},
		{func(s *Subject) { s.File = true }, ErrNone},
	} {
		s := subjectOf(int64(len(old)))
		tt.change(&s)
		r, err := Find(dir, s, nil)
		if !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v", s, err)
		}
		if err == nil {
			r.Close()
		}
	}
}

// A log that cannot be read is in the way of its own target only.
func TestFind_Foreign(t *testing.T) {
	dir := t.TempDir()
	_, _, old := made(t, dir)
	mine, other := subjectOf(int64(len(old))), Subject{Path: "/dev/vg0/other", Size: 4096, Begun: time.Unix(0, 77)}
	for _, suffix := range []string{undoSuffix, spoolSuffix} {
		newer := appendSubject(nil, &other)
		newer[1] = Version + 1
		b := appendRecord(nil, &record{kind: kindBegin, n: 4096, payload: newer}, 0)
		if err := os.WriteFile(filepath.Join(dir, fileName(&other, suffix)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := find(dir, len(old))
	if err != nil {
		t.Fatal(err)
	}
	if r.Close(); len(r.skipped) != 1 || !strings.Contains(r.skipped[0], "version 2") {
		t.Errorf("skipped %q", r.skipped)
	}
	sp, err := BeginSpool(dir, mine, Token{1}, true)
	if err != nil {
		t.Fatal(err)
	}
	if sp.Close(); len(sp.Notices()) != 1 {
		t.Errorf("notices %q", sp.Notices())
	}
	if _, _, err := Begin(t.Context(), dir, other, Token{}, memdev.New(other.Size)); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("undo of the other: %v", err)
	}
	if _, err := BeginSpool(dir, other, Token{1}, true); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("spool of the other: %v", err)
	}
}

// The first record is decoded to what was encoded, and nothing makes decoding fail but with an error.
func FuzzSubject(f *testing.F) {
	s := subjectOf(1 << 20)
	f.Add(appendSubject(nil, &s))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeSubject(&record{payload: b})
		if err == nil && len(b) > 11 && b[10] < 2 && !bytes.Equal(appendSubject(nil, got), b) {
			t.Errorf("%x became %+v", b, got)
		}
	})
}
