package blockdev

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
)

// logs are the logs in dir.
func logs(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.undo")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Each way to write an object is undone, and one copy after the other.
func TestUndo(t *testing.T) {
	leakless(t)
	data := edges.Contents()[2].Make(2*chunkSize+5000, 1)
	for name, copy := range map[string]func(f fs.Fs, data []byte) error{
		"copy": func(f fs.Fs, data []byte) error {
			dir := t.TempDir()
			write(t, dir+"/src", data)
			_, err := operations.Copy(t.Context(), f, nil, "img", find(t, here(t, dir), "src"))
			return err
		},
		"stream": func(f fs.Fs, data []byte) error { _, err := put(f, "img", data); return err },
		"chunks": func(f fs.Fs, data []byte) error {
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
			dir, kept := t.TempDir(), t.TempDir()
			before := bytes.Clone(data[:len(data)-3])
			for i := 5; i < len(before); i += 1 << 20 {
				before[i] ^= 1
			}
			write(t, dir+"/img", before)
			f := newFs(t, `:blockdev,undo="`+kept+`",verify=true:localhost`+dir)
			next := bytes.Clone(data)
			next[chunkSize+7] ^= 1
			states := [][]byte{before, data, next}
			for n, data := range [][]byte{data, next, next} { // the last one changes nothing
				if err := copy(f, data); err != nil {
					t.Fatal(err)
				}
				same(t, dir+"/img", data)
				if got := logs(t, kept); len(got) != min(n+1, 2) {
					t.Fatalf("%d copies, logs %v", n+1, got)
				}
			}
			if out, err := runCommand(t, f, "undo", map[string]string{"check": ""}, "img"); err != nil || out.(*undone).Undone || out.(*undone).Kept == 0 {
				t.Errorf("%+v, %v", out, err)
			}
			for n := 1; n >= 0; n-- {
				want := states[n]
				out, err := runCommand(t, f, "undo", nil, "img")
				if err != nil {
					t.Fatal(err)
				}
				u := out.(*undone)
				if u.Copy != "complete" || !u.Undone || u.Written != u.Kept || u.Size != int64(len(want)) {
					t.Errorf("%+v", u)
				}
				same(t, dir+"/img", want)
			}
			if _, err := runCommand(t, f, "undo", nil, "img"); !errors.Is(err, fs.ErrorObjectNotFound) || !strings.Contains(err.Error(), "nothing to undo") {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

// Several streams keep what they overwrite in one log, also one after the other of the same range.
func TestUndo_Streams(t *testing.T) {
	const size = 5<<28 + 12345
	dir, kept := t.TempDir(), t.TempDir()
	old, source := sparse(t, dir+"/img", size, 'o'), sparse(t, dir+"/src", size, 's')
	before := sumOf(t, old)
	f := newFs(t, `:blockdev,streams=4,undo="`+kept+`":localhost`+dir)
	if _, err := operations.Copy(t.Context(), f, nil, "img", find(t, here(t, dir), "src")); err != nil {
		t.Fatal(err)
	}
	if sumOf(t, old) != sumOf(t, source) || len(logs(t, kept)) != 1 {
		t.Fatalf("not copied, or logs %v", logs(t, kept))
	}
	if _, err := runCommand(t, f, "undo", nil, "img"); err != nil {
		t.Fatal(err)
	}
	if sumOf(t, old) != before {
		t.Error("not what it was")
	}
}

// sparse makes a file with data of its own in the middle of each stripe, and a hole between.
func sparse(t *testing.T, path string, size int64, seed byte) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for off := int64(1 << 20); off < size; off += 1 << 26 {
		if _, err := f.WriteAt(bytes.Repeat([]byte{seed, byte(off >> 20)}, 3<<19), off+int64(seed)*512); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}

func sumOf(t *testing.T, path string) string {
	t.Helper()
	f := here(t, filepath.Dir(path))
	out, err := runCommand(t, f, "root", nil, filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	return out.(rootResult).Root
}

// What cannot be kept is not begun, and what is not kept cannot be undone.
func TestUndo_Refused(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	data := edges.Contents()[2].Make(1<<20, 1)
	write(t, dir+"/img", data[1:])
	for where, text := range map[string]string{kept + "/none": "directory for what is kept", "relative": "absolute", "/proc": "in memory", dir + "/img": "no directory"} {
		if _, err := put(newFs(t, `:blockdev,undo="`+where+`":localhost`+dir), "img", data); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", where, err)
		}
		same(t, dir+"/img", data[1:])
	}
	f := newFs(t, ":blockdev:localhost"+dir)
	for _, opt := range []map[string]string{nil, {"dir": "relative"}, {"dir": kept}, {"dir": kept, "check": "perhaps"}} {
		if _, err := runCommand(t, f, "undo", opt, "img"); err == nil {
			t.Errorf("undo with %v", opt)
		}
	}
	f = newFs(t, `:blockdev,undo="`+kept+`":localhost`+dir)
	if _, err := put(f, "new", data); err != nil { // nothing is overwritten
		t.Fatal(err)
	}
	if got := logs(t, kept); len(got) != 0 {
		t.Errorf("a new image has %v", got)
	}
}
