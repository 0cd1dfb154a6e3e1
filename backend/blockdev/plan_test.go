package blockdev

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// planned copies by plan, as an object of this backend and as a stream.
func planned(ctx context.Context, src, dst fs.Fs, name string, stream bool) error {
	o, err := src.NewObject(ctx, name)
	if err != nil {
		return err
	}
	if !stream {
		_, err = dst.Features().Copy(ctx, o, name)
		return err
	}
	in, err := o.Open(ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = dst.Put(ctx, in, o)
	return err
}

// The unit of comparison is that of the plan, and the meter ends where the outcome is.
func TestPlan(t *testing.T) {
	const size = 3<<20 + 700
	from, to := t.TempDir(), t.TempDir()
	src, dst := here(t, from), newFs(t, "blockdev:localhost"+to)
	data := edges.Contents()[1].Make(size, 1)
	write(t, from+"/image", data)
	for _, stream := range []bool{false, true} {
		for _, unit := range []int{block.MinSize, 0, 64 << 10, block.MaxSize} {
			old := bytes.Clone(data)
			old[2<<20+12345]++
			write(t, to+"/image", old)
			var got Outcome
			plan := &Plan{BlockSize: unit, Done: func(o Outcome) { got = o }}
			if err := planned(WithPlan(t.Context(), plan), src, dst, "image", stream); err != nil {
				t.Fatal(err)
			}
			same(t, to+"/image", data)
			want := int64(plan.blockSize())
			if got.Scanned != size || got.Changed != want || got.Equal != size-want || got.Zeroed != 0 || got.Took <= 0 {
				t.Errorf("unit %d, stream %v: %+v", unit, stream, got)
			}
			c := plan.Meter.Read()
			if c.Settled != size || !stream && c.Changed != want {
				t.Errorf("unit %d, stream %v: the meter says %+v", unit, stream, c)
			}
			write(t, to+"/image", old)
			d, err := Compare(WithPlan(t.Context(), plan), find(t, src, "image").(*Object), find(t, dst, "image").(*Object))
			if err != nil || d.Changed != want || d.ChangedBlocks != 1 || plan.Meter.Read().Settled != size {
				t.Errorf("unit %d: compared %+v, %v", unit, d, err)
			}
			same(t, to+"/image", old)
		}
	}
}

// What is refused when all is open is not written, and leaves no image behind.
func TestPlan_Ready(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	src, dst := here(t, from), newFs(t, "blockdev:localhost"+to)
	write(t, from+"/image", edges.Contents()[1].Make(1<<20, 1))
	no := errors.New("no")
	for _, stream := range []bool{false, true} {
		plan := &Plan{Ready: func(Ends) error { return no }, Done: func(Outcome) { t.Error("done") }}
		if err := planned(WithPlan(t.Context(), plan), src, dst, "image", stream); !errors.Is(err, no) {
			t.Errorf("stream %v: %v", stream, err)
		}
		if left, err := os.ReadDir(to); err != nil || len(left) > 0 {
			t.Errorf("stream %v: left %v, %v", stream, left, err)
		}
	}
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	data := edges.Contents()[1].Make(1<<20+1, 1)
	write(t, dir+"/a", data)
	write(t, dir+"/b", data)
	a, b := find(t, f, "a").(*Object), find(t, f, "b").(*Object)
	if root, err := Verify(t.Context(), a, b); err != nil || len(root) != 64 {
		t.Errorf("%q, %v", root, err)
	}
	data[1<<20]++
	write(t, dir+"/b", data)
	if root, err := Verify(t.Context(), a, b); err == nil {
		t.Errorf("%q for what differs", root)
	}
}

// Where a path leads does not depend on what is configured for others, nor on rclone's encoding of names.
func TestAt(t *testing.T) {
	t.Setenv("RCLONE_BLOCKDEV_USER", "somebody")
	t.Setenv("RCLONE_BLOCKDEV_HOST", "elsewhere")
	dir := t.TempDir()
	leakless(t)
	for _, name := range []string{"plain", "a:b", "\uff0e", "half\xc3", "line\nbreak", " x ", "a‛b", "end‛", "..."} {
		write(t, dir+"/"+name, []byte(name))
		f, remote, err := At(t.Context(), "localhost", dir+"/"+name, map[string]string{"streams": "3"})
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if got := contents(t, find(t, f, remote)); string(got) != name || f.opt.Streams != 3 {
			t.Errorf("%q: %q, %d streams", name, got, f.opt.Streams)
		}
	}
	for _, path := range []string{"/", ""} {
		if _, _, err := At(t.Context(), "localhost", path, nil); err == nil {
			t.Errorf("%q names an object", path)
		}
	}
	if _, _, err := At(t.Context(), "me@localhost", "/x", nil); !errors.Is(err, errNotSSH) {
		t.Errorf("%v", err)
	}
	f, _, err := At(t.Context(), "me@vmhost:2222", "/dev/sda", nil)
	if err != nil {
		t.Fatal(err)
	}
	if at, err := f.place("sda"); err != nil || at.path != "/dev/sda" || f.opt.Host != "me@vmhost:2222" {
		t.Errorf("%v, %v", at, err)
	}
}
