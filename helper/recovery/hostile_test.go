package recovery

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// logOf is a log of those records, of the subject of size bytes.
func logOf(size int64, records ...record) []byte {
	s := subjectOf(size)
	b := appendRecord(nil, &record{kind: kindBegin, n: size, payload: appendSubject(nil, &s)}, 0)
	for i := range records {
		b = appendRecord(b, &records[i], 0)
	}
	return b
}

func transfer(n byte) record { return record{kind: kindTransfer, payload: bytes.Repeat([]byte{n}, 16)} }

func commitOf(n int64) record {
	return record{kind: kindCommit, n: n, payload: binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, 1<<64-1), 0)}
}

// Records that no program writes are damage, and cost neither time nor memory.
func TestLog_Hostile(t *testing.T) {
	const size = 1 << 20
	sums := make([]byte, 4)
	for name, r := range map[string]record{
		"old, endless":        {kind: kindOld, n: 1<<63 - 1, payload: sums},
		"old, empty":          {kind: kindOld, payload: sums},
		"old, large":          {kind: kindOld, n: block.ExtentSize + 1, payload: make([]byte, 8196)},
		"old, behind":         {kind: kindOld, off: size, n: 512, payload: sums},
		"rewritten, endless":  {kind: kindRewritten, n: 1<<63 - 1},
		"rewritten, not kept": {kind: kindRewritten, n: 4096},
		"new, endless":        {kind: kindNew, encoding: wire.EncodingNone, n: 1<<63 - 1, payload: sums},
		"new, empty":          {kind: kindNew, encoding: wire.EncodingNone, payload: sums},
		"new, behind":         {kind: kindNew, encoding: wire.EncodingNone, off: size, n: 512, payload: sums},
		"new, without sums":   {kind: kindNew, encoding: wire.EncodingNone, n: 4096, payload: sums},
	} {
		dir := t.TempDir()
		for _, suffix := range []string{undoSuffix, spoolSuffix} {
			if err := os.WriteFile(filepath.Join(dir, "x"+suffix), logOf(size, transfer(1), r, commitOf(size)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		dev := memdev.FromBytes(make([]byte, size+4096))
		err := recoverOf(t, dir, dev, size)
		if r.kind != kindNew {
			_, err = find(dir, size)
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// recoverOf applies the spool in dir.
func recoverOf(t *testing.T, dir string, dev Device, size int64) error {
	sp, err := OpenSpool(dir, subjectOf(size))
	if err != nil {
		return err
	}
	defer sp.Close()
	if !sp.Committed() {
		return ErrMissing
	}
	if err := sp.Fits(t.Context(), dev, size); err != nil {
		return err
	}
	return sp.Apply(t.Context(), dev, nil)
}

// A spool that cannot be used leaves no file open.
func TestSpool_Descriptors(t *testing.T) {
	open := func() int {
		all, _ := os.ReadDir("/proc/self/fd") // where the system tells
		return len(all)
	}
	dir := t.TempDir()
	bad := record{kind: kindRange, n: 4096, payload: []byte("no root")}
	if err := os.WriteFile(filepath.Join(dir, "x.spool"), logOf(4096, transfer(1), bad), 0o600); err != nil {
		t.Fatal(err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which closes what is forgotten
	before := open()
	for range 10 {
		if _, err := OpenSpool(dir, subjectOf(4096)); !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
	}
	if now := open(); now > before+5 {
		t.Errorf("%d files open, %d before", now, before)
	}
}

// What is forgotten is found as by looking at all that ever was.
func TestForgotten(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var f forgotten
		var all []forgot
		for at := range int64(rnd.IntN(30)) {
			from := rnd.Int64N(50)
			e := forgot{span{from, from + rnd.Int64N(20)}, at + 1}
			f.add(e.span, e.at)
			if e.from < e.to {
				all = append(all, e)
			}
		}
		for from := range int64(70) {
			s, want := span{from, from + 1 + rnd.Int64N(9)}, int64(0)
			for _, e := range all {
				if e.meets(s) {
					want = max(want, e.at)
				}
			}
			if got := f.last(s); got != want {
				t.Fatalf("%v of %v: %d, not %d", s, all, got, want)
			}
		}
		if len(all) > 0 && len(f) > 2*len(all) {
			t.Errorf("%d parts of %d", len(f), len(all))
		}
	}
}

// Whatever is in a log, it is an error at most.
func FuzzLog(f *testing.F) {
	const size = 1 << 16
	zeros := record{kind: kindNew, encoding: wire.EncodingNone, n: 4096, payload: make([]byte, 32)}
	f.Add(logOf(size, transfer(1), zeros, commitOf(size)))
	f.Add(logOf(size, record{kind: kindOld, encoding: wire.EncodingNone, n: 512, payload: make([]byte, 4)}, record{kind: kindRewritten, n: 512}))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The sums of the records are made good, so that what is in them is looked at.
		for at := 0; at+headerSize <= len(b); {
			n := int(min(binary.BigEndian.Uint32(b[at+32:]), uint32(len(b)-at-headerSize)))
			r := record{kind: kind(b[at+4]), encoding: wire.Encoding(b[at+5]), off: int64(binary.BigEndian.Uint64(b[at+16:])), n: int64(binary.BigEndian.Uint64(b[at+24:])), payload: b[at+headerSize:][:n]}
			copy(b[at:], appendRecord(nil, &r, 0))
			at += headerSize + n
		}
		dir := t.TempDir()
		for _, suffix := range []string{undoSuffix, spoolSuffix} {
			if err := os.WriteFile(filepath.Join(dir, "x"+suffix), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		dev := memdev.FromBytes(make([]byte, size))
		_ = recoverOf(t, dir, dev, size)
		if r, err := find(dir, size); err == nil {
			if r.Check(t.Context(), dev) == nil {
				_ = r.Write(t.Context(), dev)
			}
			r.Close()
		}
	})
}
