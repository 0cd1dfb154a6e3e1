package recovery

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// back brings dev back by the newest log in dir.
func back(t *testing.T, dir string, s Subject, dev *memdev.Device) error {
	t.Helper()
	r, err := Find(dir, s, func(int64) error { return nil })
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.Check(t.Context(), dev); err != nil {
		return err
	}
	for _, err := range []error{r.Begin(), r.Write(t.Context(), dev), r.End()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return nil
}

// The log of an interrupted transfer is gone on with only when the target is what that has left. When somebody else has
// written since, wherever, a new one leads back to what that was; the old one stays, and does nothing without force.
func TestBegin_Foreign(t *testing.T) {
	page := func(b byte) []byte { return bytes.Repeat([]byte{b}, pageSize) }
	for name, at := range map[string]int64{"nothing": -1, "kept": 0, "of a completed range": 28 << 10} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, dev, _ := made(t, dir)
			complete := block.Range{Offset: 24 << 10, Length: 16 << 10, BlockSize: 4096}
			u, _, err := Begin(t.Context(), dir, subjectOf(dev.Size()), Token{1}, dev)
			if err != nil {
				t.Fatal(err)
			}
			if err := u.Complete(complete, rootOf(dev.Bytes(), complete)); err != nil {
				t.Fatal(err)
			}
			u.Close()
			if at >= 0 {
				dev.WriteAt(page('B'), at)
				dev.WriteAt(page('B'), 80<<10)
			}
			before := dev.Bytes()
			s := subjectOf(dev.Size())
			s.Begun = time.Unix(0, 23456)
			u, e, err := Begin(t.Context(), dir, s, Token{2}, dev)
			if err != nil {
				t.Fatal(err)
			}
			if want := at < 0; e.Resumed != want || (e.Differs == nil) != want || e.Differs != nil && !errors.Is(e.Differs, ErrDiffers) || e.Log != path {
				t.Fatalf("%+v", e)
			}
			k := u.Keep(dev)
			for _, off := range []int64{0, 28 << 10, 80 << 10} {
				if _, err := k.WriteAt(page('C'), off); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(k.Sync(), u.End(dev.Size())); err != nil {
				t.Fatal(err)
			}
			u.Close()
			if at < 0 {
				return
			}
			if err := back(t, dir, s, dev); err != nil || !bytes.Equal(dev.Bytes(), before) {
				t.Errorf("%v, or not what it was", err)
			}
			if err := back(t, dir, s, dev); !errors.Is(err, ErrDiffers) {
				t.Errorf("the old log: %v", err)
			}
		})
	}
}

func rootOf(b []byte, r block.Range) block.Digest {
	h := block.NewRootHash(r)
	sums := make([]block.Digest, block.Count(int(r.Length), r.BlockSize))
	block.Digests(sums, b[r.Offset:][:r.Length], r.BlockSize)
	h.Add(block.ExtentDigest(sums))
	return h.Sum()
}

// The transfer that has begun a log goes on with it after a lost connection, without reading the target.
func TestBegin_SameTransfer(t *testing.T) {
	dir := t.TempDir()
	dev := memdev.New(1 << 20)
	for i := range 2 {
		u, e, err := Begin(t.Context(), dir, subjectOf(dev.Size()), Token{1}, dev)
		if err != nil || e.Resumed || e.Differs != nil {
			t.Fatal(i, e, err)
		}
		u.Close()
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 1 || dev.Counts().Reads > 0 {
		t.Errorf("%v, %d reads", left, dev.Counts().Reads)
	}
}

// An image that was made anew is not the one that an interrupted transfer has left. One that it has cut is.
func TestBegin_OtherImage(t *testing.T) {
	old := bytes.Repeat([]byte("image"), 10<<10)
	for name, tt := range map[string]struct {
		keep int64 // bytes of the end that are kept before it is cut
		now  []byte
		same bool
	}{
		"shorter":        {0, old[:8192], false},
		"shorter, kept":  {int64(len(old)) - 8192, old[:8192], true},
		"longer":         {0, append(slices.Clone(old), 1), false},
		"longer, grown":  {1, append(slices.Clone(old), 0), true},
		"of equal size":  {int64(len(old)), bytes.Repeat([]byte("other"), 10<<10), false},
		"not looked at":  {0, old, true},
		"cut to nothing": {int64(len(old)), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir, dev := t.TempDir(), memdev.FromBytes(slices.Clone(old))
			s := Subject{Path: "/images/vm", File: true, Size: int64(len(old)), Begun: time.Unix(0, 1)}
			u, _, err := Begin(t.Context(), dir, s, Token{}, dev)
			if err != nil {
				t.Fatal(err)
			}
			if tt.keep > 0 {
				err = u.KeepTail(dev, s.Size-tt.keep)
			}
			if err != nil {
				t.Fatal(err)
			}
			u.Close()
			s.Size, s.Begun = int64(len(tt.now)), time.Unix(0, 2)
			u, e, err := Begin(t.Context(), dir, s, Token{}, memdev.FromBytes(tt.now))
			if err != nil || e.Resumed != tt.same || (e.Differs == nil) != tt.same {
				t.Fatalf("%+v, %v", e, err)
			}
			u.Close()
		})
	}
}

// A transfer that has changed nothing leaves no log: the newest one is of the transfer that did.
func TestEnd_Unchanged(t *testing.T) {
	dir := t.TempDir()
	_, dev, old := made(t, dir)
	s := subjectOf(dev.Size())
	u, _, err := Begin(t.Context(), dir, s, Token{}, dev)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.End(dev.Size()); err != nil {
		t.Fatal(err)
	}
	u.Close()
	s.Begun = time.Unix(0, 23456)
	u, e, err := Begin(t.Context(), dir, s, Token{}, dev)
	if err != nil || e.Resumed {
		t.Fatal(e, err)
	}
	k := u.Keep(dev)
	if err := errors.Join(k.Sync(), u.Complete(block.Range{Length: 4096, BlockSize: 4096}, block.Digest{}), u.End(dev.Size())); err != nil {
		t.Fatal(err)
	}
	u.Close()
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
	if err := back(t, dir, s, dev); err != nil || !bytes.Equal(dev.Bytes(), old) {
		t.Errorf("%v, or not what it was", err)
	}
}

// What waits is never more than a group and a write, and the writes of one page wait together.
func TestKept_Bounded(t *testing.T) {
	dir := t.TempDir()
	dev := memdev.New(64 << 20)
	u, _, err := Begin(t.Context(), dir, subjectOf(dev.Size()), Token{}, dev)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	k := u.Keep(dev)
	for off := int64(0); off < 30<<20; off += 1 << 20 {
		for _, part := range []span{{off, off + 300_000}, {off + 300_000, off + 1<<20}} { // with a page in common
			if _, err := k.WriteAt(make([]byte, part.to-part.from), part.from); err != nil {
				t.Fatal(err)
			}
			if k.bytes > groupSize+1<<20 {
				t.Fatalf("%d bytes wait", k.bytes)
			}
		}
	}
	if err := k.Sync(); err != nil {
		t.Fatal(err)
	}
	rewritten := 0
	u.log.end = 0
	if err := u.follow(func(r *record) error {
		if r.kind == kindRewritten {
			rewritten++
		}
		return nil
	}); err != nil || rewritten > 0 {
		t.Errorf("%d pages were in two groups, %v", rewritten, err)
	}
	for i := range int64(12) {
		if err := k.Zero(40<<20+i<<20, 1<<20); err != nil || k.bytes > groupSize+1<<20 {
			t.Fatalf("%d bytes wait, %v", k.bytes, err)
		}
	}
}

// A log that cannot be used is closed.
func TestFind_Closes(t *testing.T) {
	dir := t.TempDir()
	path, dev, _ := made(t, dir)
	l, err := openLog(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := l.f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	l.end = fi.Size()
	if err := l.add(&record{kind: kindRange, n: 4096, encoding: wire.EncodingNone, payload: []byte("no root")}); err != nil {
		t.Fatal(err)
	}
	l.close()
	if _, err := find(dir, int(dev.Size())); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
	if _, _, err := Begin(t.Context(), dir, subjectOf(dev.Size()), Token{}, dev); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
	open, _ := os.ReadDir("/proc/self/fd") // where the system tells
	for _, fd := range open {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); to == path {
			t.Errorf("descriptor %s is still open", fd.Name())
		}
	}
}

// Of a range that was given up, what waited is never written; what the next one writes is, in groups and with writes that
// share pages, and an undo leads back over it.
func TestKept_GivenUp(t *testing.T) {
	const piece = block.ExtentSize - 1000
	dir, old := t.TempDir(), make([]byte, 48<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range old {
		old[i] = byte(random.Uint32())
	}
	dev := memdev.FromBytes(old)
	s := subjectOf(dev.Size())
	u, _, err := Begin(t.Context(), dir, s, Token{1}, dev)
	if err != nil {
		t.Fatal(err)
	}
	write := func(k *Kept, off int64, b []byte) {
		t.Helper()
		if n, err := k.WriteAt(b, off); n != len(b) || err != nil {
			t.Fatal(n, err)
		}
	}
	given := u.Keep(dev)
	for i := range int64(7) {
		write(given, i<<20, bytes.Repeat([]byte{7}, block.ExtentSize))
	}
	k, want := u.Keep(dev), bytes.Clone(old)
	for i := range int64(40) {
		off, b := i<<20+512, bytes.Repeat([]byte{byte(i)}, piece)
		write(k, off, b)
		write(k, off+piece, b[:100])
		copy(want[off:], b)
		copy(want[off+piece:], b[:100])
	}
	if err := k.Sync(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dev.Bytes(), want) {
		t.Error("the target has other bytes than were written")
	}
	if err := u.End(dev.Size()); err != nil {
		t.Fatal(err)
	}
	u.Close()
	if err := back(t, dir, s, dev); err != nil || !bytes.Equal(dev.Bytes(), old) {
		t.Errorf("the undo does not lead back: %v", err)
	}
}
