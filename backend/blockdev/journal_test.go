package blockdev

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// journalOf makes the journal of a copy of size bytes between two images.
func journalOf(t *testing.T, f *Fs, name string, size int64) *journal {
	t.Helper()
	from, err := f.below("from-" + name)
	if err != nil {
		t.Fatal(err)
	}
	at, err := f.below("to-" + name)
	if err != nil {
		t.Fatal(err)
	}
	return f.newObject("to-"+name, wire.Entry{}).newJournal(from, at, size)
}

// numbers are the numbers of stripes in the order of j.
func numbers(j *journal, size int64) (all []int64) {
	for _, r := range j.order(block.Stripes(size, 4096)) {
		all = append(all, r.Offset/block.StripeSize)
	}
	return all
}

// What was not done comes first, then what was done longest ago; nothing is left out, and an end leaves nothing.
func TestJournal(t *testing.T) {
	const size = 4*block.StripeSize + 5
	f := here(t, t.TempDir()).(*Fs)
	stripes := block.Stripes(size, 4096)
	j := journalOf(t, f, "a", size)
	if got := numbers(j, size); !slices.Equal(got, []int64{0, 1, 2, 3, 4}) {
		t.Errorf("%v", got)
	}
	j.finish(block.Range{Offset: stripes[0].Offset, Length: 2 * block.StripeSize}, block.Digest{}) // two together
	j.finish(block.Range{Offset: 3 * block.StripeSize, Length: pieceSize}, block.Digest{})         // a piece
	j.finish(stripes[4], block.Digest{})
	j.end(errors.New("lost"))
	j = journalOf(t, f, "a", size)
	if got := numbers(j, size); !slices.Equal(got, []int64{2, 3, 0, 1, 4}) {
		t.Errorf("%v", got)
	}
	j.page.Done[0]++ // as if later than the others
	j.finish(stripes[2], block.Digest{})
	j.end(errors.New("lost"))
	for _, n := range []int64{size - 1, size + 1} { // of another size
		if got := numbers(journalOf(t, f, "a", n), size); !slices.IsSorted(got) {
			t.Errorf("%v", got)
		}
	}
	if got := numbers(journalOf(t, f, "b", size), size); !slices.IsSorted(got) {
		t.Errorf("another target: %v", got)
	}
	j = journalOf(t, f, "a", size)
	if got := numbers(j, size); got[0] != 3 {
		t.Errorf("%v", got)
	}
	if err := j.forget(); err != nil {
		t.Error(err)
	}
	if got := numbers(j, size); !slices.IsSorted(got) {
		t.Errorf("%v", got)
	}
	j.end(nil)
	if _, err := os.Stat(j.file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	f.opt.Resume = resumeOff
	if j := journalOf(t, f, "a", size); j != nil || !slices.IsSorted(numbers(j, size)) {
		t.Error("made though it is off")
	}
}

// Whatever is in the file, no stripe is left out.
func TestJournal_Damaged(t *testing.T) {
	const size = 2*block.StripeSize + 5
	f := here(t, t.TempDir()).(*Fs)
	j := journalOf(t, f, "d", size)
	j.finish(block.Range{Length: block.StripeSize}, block.Digest{})
	j.end(io.EOF)
	good, err := os.ReadFile(j.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "x", "{}", string(good[:len(good)/2]), strings.Replace(string(good), `"done":[`, `"done":[7,`, 1), strings.Replace(string(good), `"version":1`, `"version":2`, 1), "null", "[]"} {
		write(t, j.file, []byte(text))
		got := numbers(journalOf(t, f, "d", size), size)
		if !slices.Equal(got, []int64{0, 1, 2}) {
			t.Errorf("%q: %v", text, got)
		}
	}
	j.end(nil)
}

// noted is the one journal that there is, and the file that it is in.
func noted(t *testing.T, f *Fs) (file string, page journalPage) {
	t.Helper()
	files, err := filepath.Glob(filepath.Dir(journalOf(t, f, "x", 2*block.StripeSize).file) + "/*.json")
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err == nil {
		err = json.Unmarshal(text, &page)
	}
	if err != nil {
		t.Fatalf("%s, %v", text, err)
	}
	return files[0], page
}

// A copy that was interrupted is begun with what it has not done, and whatever was changed meanwhile is put right.
func TestJournal_Copy(t *testing.T) {
	const size = block.StripeSize + 20<<20
	from, to := t.TempDir(), t.TempDir()
	f, relay := overSSH(t, to)
	f.(*Fs).opt.RetryTime, f.(*Fs).opt.Streams = 0, 1
	data := edges.Contents()[1].Make(20<<20, 3)
	img, err := os.Create(from + "/img")
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	for _, at := range []int64{0, block.StripeSize} {
		if _, err := img.WriteAt(data, at); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.Create(to + "/img")
	if err == nil {
		err = errors.Join(old.Truncate(size), old.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	src := find(t, newFs(t, "blockdev:localhost"+from), "img")
	relay.CutAfter(32 << 20)
	ctx, ci := fs.AddConfig(t.Context())
	ci.LowLevelRetries = 1
	if _, err := operations.Copy(ctx, f, find(t, f, "img"), "img", src); err == nil {
		t.Fatal("was not cut")
	}
	file, page := noted(t, f.(*Fs))
	if len(page.Done) != 2 || page.Done[0] == 0 || page.Done[1] != 0 {
		t.Errorf("%+v", page)
	}
	// Somebody writes to what was done.
	if old, err = os.OpenFile(to+"/img", os.O_WRONLY, 0); err == nil {
		_, err = old.WriteAt([]byte("behind its back"), 5<<20)
		err = errors.Join(err, old.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	relay.Reset()
	log := listen(t)
	if _, err := operations.Copy(t.Context(), f, find(t, f, "img"), "img", src); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.text(), "1 of 2 parts were read through then") || log.counter("equal") < block.StripeSize-4096 {
		t.Errorf("%s", log.text())
	}
	out, err := runCommand(t, f, "root", nil, "img")
	if err != nil {
		t.Fatal(err)
	}
	want, err := runCommand(t, src.Fs().(*Fs), "root", nil, "img")
	if err != nil || out != want {
		t.Errorf("%v, %v, %v", out, want, err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
