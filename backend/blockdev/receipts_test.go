package blockdev

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/backend/receipt"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
)

// only is the one receipt in dir. It fails the test unless its manifest is that of data.
func only(t *testing.T, dir string, data []byte) *receipt.Receipt {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.json")
	if err != nil || len(files) != 1 {
		t.Fatalf("receipts %q, %v", files, err)
	}
	r, m, err := receipt.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	err = delta.Digests(t.Context(), memdev.FromBytes(data), block.Range{Length: int64(len(data)), BlockSize: r.BlockSize}, func(i int64, d block.Digest) error {
		if have, err := m.Digest(i); err != nil || have != d {
			t.Fatalf("extent %d: %v", i, err)
		}
		return nil
	})
	if err != nil || m.Size != int64(len(data)) {
		t.Errorf("%d bytes, not %d, %v", m.Size, len(data), err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 2 {
		t.Errorf("%v is in the directory, %v", all, err)
	}
	return r
}

// Each way to write an object leaves a receipt of what it then holds.
func TestReceipt(t *testing.T) {
	leakless(t)
	data := edges.Contents()[2].Make(2*chunkSize+5000, 1)
	for name, copy := range map[string]func(f fs.Fs) error{
		"copy": func(f fs.Fs) error {
			dir := t.TempDir()
			write(t, dir+"/src", data)
			_, err := operations.Copy(t.Context(), f, nil, "img", find(t, here(t, dir), "src"))
			return err
		},
		"stream": func(f fs.Fs) error { _, err := put(f, "img", data); return err },
		"chunks": func(f fs.Fs) error {
			w := chunked(t, f, "img", int64(len(data)))
			for _, n := range []int{2, 0, 1, 1} {
				if _, err := w.WriteChunk(t.Context(), n, bytes.NewReader(data[n*chunkSize:min((n+1)*chunkSize, len(data))])); err != nil {
					return err
				}
			}
			return w.Close(t.Context())
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, receipts := t.TempDir(), filepath.Join(t.TempDir(), "new")
			before := bytes.Clone(data[:len(data)-3])
			before[5] ^= 1
			write(t, dir+"/img", before)
			start := time.Now()
			if err := copy(newFs(t, `:blockdev,receipt="`+receipts+`":localhost`+dir)); err != nil {
				t.Fatal(err)
			}
			same(t, dir+"/img", data)
			r := only(t, receipts, data)
			if r.Target.Name != "localhost:"+dir+"/img" || r.Target.Kind != "file" || r.Target.Size != int64(len(data)) || r.Source.Size != int64(len(data)) {
				t.Errorf("%+v", r)
			}
			scanned := int64(len(data))
			if name == "chunks" { // one of them twice
				scanned += chunkSize
			}
			if r.Scanned != scanned || r.Equal+r.Changed+r.Zeroed != r.Scanned || r.Changed > 8192 || r.Changed == 0 || r.TargetRead == 0 {
				t.Errorf("%+v", r)
			}
			if r.Started.Before(start) || r.Ended.Before(r.Started) || r.Ended.After(time.Now()) {
				t.Errorf("from %v to %v", r.Started, r.Ended)
			}
		})
	}
}

// A connection that is lost in the middle changes nothing of the receipt.
func TestReceipt_Lost(t *testing.T) {
	const size = 40 << 20
	dir, from, receipts := t.TempDir(), t.TempDir(), t.TempDir()
	data := edges.Contents()[1].Make(size, 3)
	write(t, from+"/img", data)
	f, relay := overSSH(t, dir)
	f.(*Fs).opt.Receipt = receipts
	for name, copy := range map[string]func() error{
		"push": func() error {
			_, err := operations.Copy(t.Context(), f, nil, "push", find(t, newFs(t, from), "img"))
			return err
		},
		"stream": func() error { _, err := f.Put(t.Context(), bytes.NewReader(data), info("stream", size)); return err },
	} {
		relay.Reset()
		relay.CutAfter(15 << 20)
		if err := copy(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		same(t, dir+"/"+name, data)
		r := only(t, receipts, data)
		if r.Wire < size {
			t.Errorf("%s: %d bytes on the wire", name, r.Wire)
		}
		for _, file := range []string{r.Manifest, strings.TrimSuffix(r.Manifest, receipt.ManifestExt) + receipt.Ext} {
			if err := os.Remove(filepath.Join(receipts, file)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Where no receipt can be written nothing is written at all.
func TestReceipt_Refused(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	write(t, dir+"/img", []byte("old"))
	write(t, dir+"/file", nil)
	f.(*Fs).opt.Receipt = dir + "/file/below"
	if _, err := put(f, "img", []byte("new")); err == nil || !strings.Contains(err.Error(), "receipt") {
		t.Errorf("%v", err)
	}
	same(t, dir+"/img", []byte("old"))
	ctx := WithPlan(t.Context(), &Plan{Receipt: dir + "/none/r.json"})
	if _, err := f.Put(ctx, strings.NewReader("new"), info("img", 3)); err == nil {
		t.Error("no error")
	}
	same(t, dir+"/img", []byte("old"))
}

// A program names the file, and is told it.
func TestReceipt_Plan(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "r.json")
	f := here(t, dir)
	var told string
	ctx := WithPlan(t.Context(), &Plan{Receipt: file, BlockSize: 512, Done: func(o Outcome) { told = o.Receipt }})
	if _, err := f.Put(ctx, strings.NewReader("new"), info("img", 3)); err != nil {
		t.Fatal(err)
	}
	if r := only(t, filepath.Dir(file), []byte("new")); told != file || r.BlockSize != 512 || r.Manifest != "r.manifest" {
		t.Errorf("%q, %+v", told, r)
	}
}

func runCommand(t *testing.T, f fs.Fs, name string, opt map[string]string, arg ...string) (any, error) {
	t.Helper()
	return f.(*Fs).Command(context.Background(), name, arg, opt)
}

// A device is checked without the source, and what has changed between two copies is told.
func TestReceipts(t *testing.T) {
	dir, receipts := t.TempDir(), t.TempDir()
	f := here(t, dir)
	f.(*Fs).opt.Receipt = receipts
	data := edges.Contents()[1].Make(5<<20+77, 1)
	for range 3 {
		if _, err := put(f, "img", data); err != nil {
			t.Fatal(err)
		}
		data[2<<20+1] ^= 1
		data[len(data)-1] ^= 1
	}
	data[2<<20+1] ^= 1
	data[len(data)-1] ^= 1
	if _, err := put(f, "other", data[:5]); err != nil {
		t.Fatal(err)
	}
	out, err := runCommand(t, f, "receipts", nil, "img")
	lines, ok := out.([]*receiptLine)
	if err != nil || !ok || len(lines) != 3 || lines[0].Since != nil || !slices.IsSortedFunc(lines, func(a, b *receiptLine) int { return a.Ended.Compare(b.Ended) }) {
		t.Fatalf("%+v, %v", out, err)
	}
	for _, line := range lines[1:] {
		if line.Since == nil || line.Since.Ranges != 2 || line.Since.Differing != 1<<20+77 || line.Changed != 4096+77 {
			t.Errorf("%+v %+v", line, line.Since)
		}
	}
	base := func(i int) string { return filepath.Base(lines[i].File) }
	if _, err := runCommand(t, f, "receipts", map[string]string{"from": base(0), "to": base(2)}, "img"); err != nil {
		t.Error(err)
	}
	change, err := changed(lines[0].File, lines[1].File, true)
	if err != nil || !slices.Equal(change.List, []Range{{2 << 20, 1 << 20}, {5 << 20, 77}}) {
		t.Errorf("%+v, %v", change, err)
	}
	if r, err := runCommand(t, f, "receipts", map[string]string{"show": base(1)}, "img"); err != nil || r.(*receipt.Receipt).Root != lines[1].Root {
		t.Errorf("%v, %v", r, err)
	}
	for name, opt := range map[string]map[string]string{"half": {"from": base(0)}, "none": {"show": "none.json"}, "no directory": {"dir": dir + "/none"}} {
		if _, err := runCommand(t, f, "receipts", opt, "img"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := runCommand(t, f, "receipts", map[string]string{"show": base(1)}, "other"); err == nil {
		t.Error("a receipt of another object")
	}

	latest := map[string]string{"receipt": lines[2].File}
	if _, err := runCommand(t, f, "verify", latest, "img"); err != nil {
		t.Error(err)
	}
	if _, err := runCommand(t, f, "verify", latest, "img", "blockdev:localhost"+dir+"/other"); err == nil {
		t.Error("two arguments and a receipt")
	}
	log := listen(t)
	if _, err := runCommand(t, f, "verify", map[string]string{"receipt": lines[1].File}, "img"); err == nil || !strings.Contains(err.Error(), "2 ranges") || errors.Is(err, fs.ErrorObjectNotFound) {
		t.Errorf("%v", err)
	}
	if said := log.text(); !strings.Contains(said, "at byte 2097152: 1048576 bytes differ") || !strings.Contains(said, "at byte 5242880: 77 bytes differ") {
		t.Errorf("%s", said)
	}
	write(t, dir+"/img", data[:len(data)-1])
	if _, err := runCommand(t, f, "verify", latest, "img"); err == nil {
		t.Error("another size")
	}
}
