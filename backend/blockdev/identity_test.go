package blockdev

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// named gives a name, in a directory of its own, that can be led to one device after the other.
func named(t *testing.T) (dir string, lead func(d *harness.Device)) {
	t.Helper()
	dir = t.TempDir()
	return dir, func(d *harness.Device) {
		t.Helper()
		name := filepath.Join(dir, "disk")
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.Symlink(d.Path, name); err != nil {
			t.Fatal(err)
		}
	}
}

// rewrite updates the device of that name as a new run of rclone would.
func rewrite(t *testing.T, remote string, data []byte) error {
	t.Helper()
	o := find(t, newFs(t, remote), "disk")
	return o.Update(t.Context(), bytes.NewReader(data), info("x", int64(len(data))))
}

// backend runs a backend command on a remote.
func backend(t *testing.T, remote, name string) (any, error) {
	t.Helper()
	return newFs(t, remote).(*Fs).Command(t.Context(), name, []string{"disk"}, nil)
}

func TestDevice_ExpectID(t *testing.T) {
	old, data := edges.Contents()[1].Make(1<<20, 1), edges.Contents()[1].Make(1<<20, 2)
	d, _, _ := loop(t, old)
	dir, lead := named(t)
	lead(d)
	out, err := backend(t, "blockdev:localhost"+dir, "info")
	ids, _ := out.(map[string]any)["ids"].([]string)
	if err != nil || len(ids) != 1 || !strings.HasPrefix(ids[0], "file=") {
		t.Fatalf("%v, %v", out, err)
	}
	remote := func(id string) string { return `:blockdev,expect_id="` + id + `":localhost` + dir }
	err = rewrite(t, remote("serial=1234"), data)
	if !errors.Is(err, wire.CodeIdentity) || !fserrors.IsNoRetryError(err) || !strings.Contains(err.Error(), ids[0]) {
		t.Errorf("another device: %v", err)
	}
	holds(t, d, old)
	if err := rewrite(t, remote(ids[0]), data); err != nil {
		t.Error(err)
	}
	holds(t, d, data)
	if _, err := put(newFs(t, remote("serial=1234")), "new.img", data); !errors.Is(err, wire.CodeIdentity) {
		t.Errorf("a new image: %v", err)
	}
}

// The chunks of a copy are written under the same rules, and several streams too.
func TestDevice_PinIDs(t *testing.T) {
	old, data := edges.Contents()[1].Make(1<<20, 1), edges.Contents()[1].Make(1<<20, 2)
	first, _, _ := loop(t, old)
	second, _, _ := loop(t, old)
	dir, lead := named(t)
	remote := ":blockdev,pin_ids:localhost" + dir
	lead(first)
	l := listen(t)
	for range 2 {
		if err := rewrite(t, remote, data); err != nil {
			t.Fatal(err)
		}
	}
	tg, err := find(t, newFs(t, remote), "disk").(*Object).openTarget(t.Context(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if more, err := tg.join(t.Context()); err != nil {
		t.Errorf("a second stream: %v", err)
	} else {
		more.close()
	}
	tg.abort(nil)
	if n := strings.Count(l.text(), "remembered as the device at localhost:"+dir+"/disk: file="); n != 1 {
		t.Errorf("said %d times what is remembered: %s", n, l.text())
	}
	for line := range strings.Lines(l.text()) {
		if strings.Contains(line, "remembered as") && !strings.Contains(line, `"level":"notice"`) {
			t.Errorf("not seen by all: %s", line)
		}
	}
	lead(second)
	if err := rewrite(t, "blockdev:localhost"+dir, old); err != nil { // without the option it is written
		t.Fatal(err)
	}
	write := func(name string, fn func() error) {
		t.Helper()
		err := fn()
		if !errors.Is(err, wire.CodeIdentity) || !fserrors.IsNoRetryError(err) || !strings.Contains(err.Error(), "this is not the disk that was synced before: was file=") {
			t.Errorf("%s: %v", name, err)
		}
		holds(t, second, old)
	}
	write("update", func() error { return rewrite(t, remote, data) })
	write("chunks", func() error {
		_, _, err := newFs(t, remote).(*Fs).OpenChunkWriter(t.Context(), "disk", info("x", 1<<20))
		return err
	})
	out, err := backend(t, remote, "info")
	if pinned, _ := out.(map[string]any)["pinned"].([]string); err != nil || len(pinned) != 1 {
		t.Errorf("%v, %v", out, err)
	}
	if known, err := backend(t, remote, "unpin"); err != nil || len(known.(*pin).IDs) != 1 {
		t.Errorf("%v, %v", known, err)
	}
	if _, err := backend(t, remote, "unpin"); !errors.Is(err, fs.ErrorObjectNotFound) {
		t.Errorf("twice: %v", err)
	}
	if err := rewrite(t, remote, data); err != nil {
		t.Error(err)
	}
	holds(t, second, data)
}

// What is overwritten is said before the first write: as a notice unless the source has the same.
func TestDevice_Announce(t *testing.T) {
	require.Need(t, require.Mkfs)
	const size = 8 << 20
	filesystem := func(uuid string) []byte {
		path := filepath.Join(t.TempDir(), "image")
		write(t, path, make([]byte, size))
		mkfs, _ := require.Program("mkfs.ext4")
		if out, err := exec.Command(mkfs, "-q", "-F", "-U", uuid, path).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	const uuidA, uuidB = "01234567-89ab-cdef-0123-456789abcdef", "11234567-89ab-cdef-0123-456789abcdef"
	a, b, zeros := filesystem(uuidA), filesystem(uuidB), make([]byte, size)
	d, f, o := loop(t, zeros)
	sources := t.TempDir()
	for _, c := range []struct {
		name   string
		data   []byte
		level  string
		saying []string
	}{
		{"Empty", a, "info", []string{"on which nothing known was found"}},
		{"Same", a, "info", []string{"overwriting ext4 " + uuidA, "the source has too"}},
		{"Other", b, "notice", []string{"overwriting what is on the device: ext4 " + uuidA, "on the source is ext4 " + uuidB}},
		{"Erased", zeros, "notice", []string{"ext4 " + uuidB, "nothing known is on the source"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := harness.ReadBack(t, d.Path)
			write(t, sources+"/image", c.data)
			image := find(t, newFs(t, "blockdev:localhost"+sources), "image")
			for way, try := range map[string]func() error{
				"stream": func() error { return o.Update(t.Context(), bytes.NewReader(c.data), info("x", size)) },
				"copy":   func() error { _, err := f.Features().Copy(t.Context(), image, o.Remote()); return err },
			} {
				if err := os.WriteFile(d.Path, old, 0o600); err != nil {
					t.Fatal(err)
				}
				l := listen(t)
				if err := try(); err != nil {
					t.Fatal(err)
				}
				holds(t, d, c.data)
				line := ""
				for _, text := range l.lines {
					if strings.Contains(text, "overwriting") {
						line += text
					}
				}
				for _, word := range append(c.saying, `"level":"`+c.level+`"`) {
					if !strings.Contains(line, word) {
						t.Errorf("%s: %q does not say %q", way, line, word)
					}
				}
			}
		})
	}
	l := listen(t)
	_, w, err := f.(*Fs).OpenChunkWriter(t.Context(), o.Remote(), info("x", size))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(l.text(), "nothing known was found") {
		t.Error(l.text())
	}
}

// failsOnce is a reader that is at its end after a failure.
type failsOnce struct{ err error }

func (f *failsOnce) Read([]byte) (int, error) {
	err := f.err
	f.err = io.EOF
	return 0, err
}

// A source that fails while its beginning is looked at is an error, not a short source.
func TestDevice_AnnounceBroken(t *testing.T) {
	require.Need(t, require.Mkfs)
	d, _, o := loop(t, make([]byte, 8<<20))
	mkfs, _ := require.Program("mkfs.ext4")
	if out, err := exec.Command(mkfs, "-q", "-F", d.Path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	old := harness.ReadBack(t, d.Path)
	failure := errors.New("no more")
	in := io.MultiReader(strings.NewReader("begins"), &failsOnce{err: failure})
	if err := o.Update(t.Context(), in, info("x", 8<<20)); err == nil || !strings.Contains(err.Error(), failure.Error()) {
		t.Errorf("%v", err)
	}
	holds(t, d, old)
}

// What became a device, or a file, since it was found is not written.
func TestDevice_BecameAnother(t *testing.T) {
	old, data := edges.Contents()[1].Make(1<<20, 1), edges.Contents()[1].Make(1<<20, 2)
	d, _, _ := loop(t, old)
	dir, lead := named(t)
	image := filepath.Join(dir, "disk")
	update := func(o fs.Object) {
		t.Helper()
		err := o.Update(t.Context(), bytes.NewReader(data), info("x", 1<<20))
		if !errors.Is(err, wire.CodeRefused) || !strings.Contains(err.Error(), "when it was looked at") {
			t.Errorf("%v", err)
		}
	}
	write(t, image, old)
	o := find(t, newFs(t, "blockdev:localhost"+dir), "disk")
	lead(d)
	update(o)
	holds(t, d, old)
	o = find(t, newFs(t, "blockdev:localhost"+dir), "disk")
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	update(o)
	if _, err := os.Stat(image); err == nil {
		t.Error("a file was made in the place of the device")
	}
	write(t, image, old)
	update(o)
	same(t, image, old)
}

// An image takes the size of its source, and the log says so.
func TestImage_SizeFollows(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "disk"), make([]byte, 5000))
	f := here(t, dir)
	for _, size := range []int{7000, 3000} {
		l := listen(t)
		o := find(t, f, "disk")
		want := "the image has " + strconv.FormatInt(o.Size(), 10) + " bytes and gets the " + strconv.Itoa(size) + " of its source"
		data := edges.Contents()[1].Make(size, 3)
		if err := o.Update(t.Context(), bytes.NewReader(data), info("x", int64(size))); err != nil {
			t.Fatal(err)
		}
		same(t, filepath.Join(dir, "disk"), data)
		if !strings.Contains(l.text(), want) {
			t.Errorf("%s does not say %q", l.text(), want)
		}
	}
}
