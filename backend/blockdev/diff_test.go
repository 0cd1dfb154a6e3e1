package blockdev

import (
	"bytes"
	"image/png"
	"os"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
)

// spans are the ranges of a result.
func spans(out map[string]any) (list []Range) {
	found, _ := out["ranges"].([]any)
	for _, x := range found {
		m := x.(map[string]any)
		list = append(list, Range{int64(m["offset"].(float64)), int64(m["length"].(float64))})
	}
	return list
}

// The ranges are where the bytes differ, and nothing but them, in blocks.
func TestCommand_Diff_ranges(t *testing.T) {
	dir := t.TempDir()
	const size = 3<<20 + 700
	data := edges.Contents()[1].Make(size, 1)
	old := bytes.Clone(data)
	for _, at := range []int{0, 5000, 4096 * 100, 2<<20 - 1, 2 << 20, size - 1} {
		old[at]++
	}
	write(t, dir+"/a", data)
	write(t, dir+"/b", old)
	f := here(t, dir)
	out, err := runWith(t, t.Context(), f, map[string]string{"ranges": "true"}, "diff", "a", dir+"/b")
	want := []Range{{0, 8192}, {4096 * 100, 4096}, {2<<20 - 4096, 8192}, {3 << 20, 700}}
	if got := spans(out); err != nil || len(got) != len(want) || out["rangeUnit"] != 4096.0 {
		t.Fatalf("%v, %v", out, err)
	} else {
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("range %d is %v, want %v", i, got[i], want[i])
			}
		}
	}
	write(t, dir+"/b", data)
	out, err = runWith(t, t.Context(), f, map[string]string{"ranges": ""}, "diff", "a", dir+"/b")
	if list, ok := out["ranges"].([]any); err != nil || !ok || len(list) != 0 {
		t.Errorf("nothing differs: %v, %v", out, err)
	}
	out, err = run(t, f, "diff", "a", dir+"/b")
	if _, ok := out["ranges"]; err != nil || ok {
		t.Errorf("not asked for: %v, %v", out, err)
	}
}

// However many differ, the list is short and covers them all.
func TestRanges_Many(t *testing.T) {
	const size = 100000 * 8192
	r := newRanges(size, 4096)
	for i := range int64(100000) {
		r.mark(i*8192, 4096, host.FateChanged)
		r.mark(i*8192+4096, 4096, host.FateEqual)
	}
	list, unit := r.all()
	if len(list) > maxRanges || len(list) == 0 || unit <= 4096 {
		t.Fatalf("%d ranges of %d", len(list), unit)
	}
	next := int64(0)
	for i := range int64(100000) {
		for next < int64(len(list)) && list[next].Offset+list[next].Length <= i*8192 {
			next++
		}
		if s := list[next]; s.Offset > i*8192 || s.Offset+s.Length < i*8192+4096 {
			t.Fatalf("block at %d is in none: %v", i*8192, s)
		}
	}
	if last := list[len(list)-1]; last.Offset+last.Length > size {
		t.Errorf("%v goes past the end", last)
	}
}

// A map is drawn, of what was compared. Options that make no sense are refused before anybody is asked, and leave nothing.
func TestCommand_Diff_map(t *testing.T) {
	dir, pictures := t.TempDir(), t.TempDir()
	write(t, dir+"/a", edges.Contents()[1].Make(1<<20, 1))
	write(t, dir+"/b", edges.Contents()[1].Make(1<<20, 2))
	f := here(t, dir)
	for _, c := range []struct {
		opt  map[string]string
		name string
		want string // in the error
	}{
		{map[string]string{"map": pictures + "/map.gif"}, "a", ".png or .svg"},
		{map[string]string{"map": pictures + "/none/map.png"}, "a", "does not exist"},
		{map[string]string{"map": pictures + "/map.png", "layout": "spiral"}, "a", "hilbert or rows"},
		{map[string]string{"layout": "rows"}, "a", "for the option map"},
		{map[string]string{"ranges": "some"}, "a", "true or false"},
		{map[string]string{"map": pictures + "/map.png"}, "none", "none"},
	} {
		if _, err := runWith(t, t.Context(), f, c.opt, "diff", c.name, dir+"/b"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.opt, err)
		}
	}
	if left, err := os.ReadDir(pictures); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	out, err := runWith(t, t.Context(), f, map[string]string{"map": pictures + "/map.png", "layout": "rows", "ranges": "true"}, "diff", "a", dir+"/b")
	if err != nil || len(spans(out)) != 1 || out["changed"] != float64(1<<20) {
		t.Errorf("%v, %v", out, err)
	}
	picture, err := os.Open(pictures + "/map.png")
	if err != nil {
		t.Fatal(err)
	}
	defer picture.Close()
	if _, err := png.Decode(picture); err != nil {
		t.Error(err)
	}
}
