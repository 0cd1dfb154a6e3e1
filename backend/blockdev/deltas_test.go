package blockdev

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/rclone/rclone/backend/crypt"
	_ "github.com/rclone/rclone/backend/memory"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config/obscure"

	"github.com/rclone-blockdev/rclone-blockdev/backend/deltafile"
	"github.com/rclone-blockdev/rclone-blockdev/backend/receipt"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
)

// nights makes an image and n increments of it in store, and returns what it held each night. The image is dir/img.
func nights(t *testing.T, f fs.Fs, dir, store string, n, size int) (states [][]byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(n)))
	data := edges.Contents()[2].Make(size, 7)
	for night := range n {
		write(t, dir+"/img", data)
		opt := map[string]string{"since": "none"}
		if night > 0 {
			opt["since"] = fmt.Sprintf("%s/%02d.delta", store, night-1)
		}
		out, err := runCommand(t, f, "delta", opt, "img", fmt.Sprintf("%s/%02d.delta", store, night))
		if err != nil {
			t.Fatalf("night %d: %v", night, err)
		}
		if res := out.(*deltaResult); res.Size != int64(len(data)) || res.Full != (night == 0) || night > 0 && res.Bytes > 6<<20 {
			t.Errorf("night %d: %+v", night, res)
		}
		states = append(states, bytes.Clone(data))
		for range 1 + r.IntN(3) { // some blocks change, some become zero, some come back
			at := r.IntN(len(data) - 5000)
			switch r.IntN(4) {
			case 0:
				clear(data[at&^(1<<20-1) : min(len(data), at|(1<<20-1))+1-1])
			case 1:
				copy(data[at:at+5000], states[r.IntN(len(states))][min(at, size-5000):])
			default:
				data[at] ^= byte(1 + r.IntN(255))
			}
		}
		switch night % 10 { // now and then it is resized
		case 4:
			data = append(data, edges.Contents()[2].Make(1<<20+700, uint64(night))...)
		case 8:
			data = data[:size]
		}
	}
	return states
}

// restored fails unless the chain up to a night makes an image of what was there.
func restored(t *testing.T, f fs.Fs, dir, store string, night int, want []byte) {
	t.Helper()
	name := fmt.Sprintf("night%d", night)
	out, err := runCommand(t, f, "apply", map[string]string{"until": fmt.Sprintf("%02d.delta", night)}, name, store)
	if err != nil {
		t.Fatalf("night %d: %v", night, err)
	}
	same(t, dir+"/"+name, want)
	if res := out.(*applyResult); res.Size != int64(len(want)) || res.Deltas != night+1 || len(res.Root) != 64 || res.Equal+res.Changed+res.Zeroed != res.Size {
		t.Errorf("%+v", res)
	}
}

// Thirty increments of an image lie in a folder, and any night comes back; one link missing or damaged is refused
// with its name before anything is written.
func TestDeltas(t *testing.T) {
	dir, store := t.TempDir(), filepath.Join(t.TempDir(), "store")
	f := here(t, dir)
	states := nights(t, f, dir, store, 30, 24<<20-1000)
	for _, night := range []int{0, 29, 7, 18, 23} {
		restored(t, f, dir, store, night, states[night])
	}
	if all, err := os.ReadDir(store); err != nil || len(all) != 30 {
		t.Errorf("%d files, %v", len(all), err)
	}

	// Over an image of another night, and over one that has nothing to do with it.
	write(t, dir+"/other", edges.Contents()[1].Make(25<<20, 9))
	for _, name := range []string{"night7", "other"} {
		if _, err := runCommand(t, f, "apply", nil, name, store); err != nil {
			t.Error(err)
		}
		same(t, dir+"/"+name, states[29])
	}

	link := func(i int) string { return fmt.Sprintf("%s/%02d.delta", store, i) }
	refused := func(what string, want string, opt map[string]string, args ...string) {
		t.Helper()
		write(t, dir+"/target", states[3])
		if _, err := runCommand(t, f, "apply", opt, append([]string{"target"}, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
		same(t, dir+"/target", states[3])
	}
	refused("not based on it", "does not hold the state that local:"+link(5), nil, link(5), link(6))
	refused("out of order", "12.delta does not follow local:"+link(13), nil, link(0), link(13), link(12))
	refused("no such file", link(77), nil, link(0), link(77))
	refused("no such night", `no delta "77.delta"`, map[string]string{"until": "77.delta"}, store)
	if err := os.Rename(link(12), dir+"/away"); err != nil {
		t.Fatal(err)
	}
	refused("one is missing", link(12)+`", which is missing or not in its place`, nil, store)
	text, err := os.ReadFile(dir + "/away")
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/3] ^= 4
	write(t, link(12), text)
	refused("one is damaged", link(12)+": "+deltafile.ErrFormat.Error(), nil, store)
	write(t, link(12), text[:len(text)/2])
	refused("one is cut", link(12)+": "+deltafile.ErrFormat.Error(), nil, store)

	// From the state that a link is based on, without those before it, and to where it is already.
	write(t, dir+"/target", states[12])
	for range 2 {
		out, err := runCommand(t, f, "apply", nil, "target", link(13), link(14))
		if err != nil {
			t.Fatal(err)
		}
		same(t, dir+"/target", states[14])
		if res := out.(*applyResult); res.Deltas != 2 || res.Changed > 4<<20 {
			t.Errorf("%+v", res)
		}
	}
}

// What an interrupted apply has left is completed when that is asked for, and nothing else is.
func TestDeltas_Continue(t *testing.T) {
	dir, store := t.TempDir(), t.TempDir()
	f := here(t, dir)
	states := nights(t, f, dir, store, 4, 6<<20)
	links := []string{"target", store + "/01.delta", store + "/02.delta", store + "/03.delta"}
	half := bytes.Clone(states[0])
	for at := 0; at < len(half); at += 2 << 20 {
		copy(half[at:at+1<<20], states[3][at:])
	}
	write(t, dir+"/target", half)
	if _, err := runCommand(t, f, "apply", nil, links...); err == nil || !strings.Contains(err.Error(), "continue=true") {
		t.Errorf("%v", err)
	}
	same(t, dir+"/target", half)
	again := map[string]string{"continue": "true"}
	if _, err := runCommand(t, f, "apply", again, links...); err != nil {
		t.Error(err)
	}
	same(t, dir+"/target", states[3])
	other := edges.Contents()[1].Make(6<<20, 5)
	write(t, dir+"/target", other)
	if _, err := runCommand(t, f, "apply", again, links...); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Errorf("%v", err)
	}
	same(t, dir+"/target", other)
	// A dry run verifies, and writes nothing.
	write(t, dir+"/target", states[0])
	ctx, ci := fs.AddConfig(t.Context())
	ci.DryRun = true
	if out, err := f.(*Fs).Command(ctx, "apply", links, nil); err != nil || out.(*applyResult).Deltas != 3 {
		t.Errorf("%v", err)
	}
	if out, err := f.(*Fs).Command(ctx, "apply", []string{"new", store}, nil); err != nil || out.(*applyResult).Deltas != 4 {
		t.Errorf("%v", err)
	}
	if out, err := f.(*Fs).Command(ctx, "delta", []string{"target", store + "/x"}, nil); err != nil || out != nil {
		t.Errorf("%v", err)
	}
	same(t, dir+"/target", states[0])
	for _, name := range []string{dir + "/new", store + "/x"} {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	if _, err := runCommand(t, f, "apply", nil, "new", store+"/01.delta"); !errors.Is(err, fs.ErrorObjectNotFound) {
		t.Errorf("%v", err)
	}
}

// Images of all sizes and contents come back, and each becomes the other.
func TestDeltas_Sizes(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	sizes := edges.Sizes()
	for i, size := range sizes {
		a := edges.Contents()[1+i%4].Make(size, 1)
		b := edges.Contents()[i%5].Make(sizes[(i+5)%len(sizes)], 2)
		x, y := fmt.Sprintf("%s/%d.a", dir, i), fmt.Sprintf("%s/%d.b", dir, i)
		write(t, dir+"/img", a)
		if _, err := runCommand(t, f, "delta", nil, "img", x); err != nil {
			t.Fatal(err)
		}
		write(t, dir+"/img", b)
		if _, err := runCommand(t, f, "delta", map[string]string{"since": x}, "img", y); err != nil {
			t.Fatal(err)
		}
		if _, err := runCommand(t, f, "apply", nil, "new", x, y); err != nil {
			t.Fatalf("%d to %d: %v", len(a), len(b), err)
		}
		same(t, dir+"/new", b)
		write(t, dir+"/old", a)
		if _, err := runCommand(t, f, "apply", nil, "old", y); err != nil {
			t.Fatalf("%d to %d: %v", len(a), len(b), err)
		}
		same(t, dir+"/old", b)
	}
}

// Deltas live on remotes of all kinds.
func TestDeltas_Remotes(t *testing.T) {
	secret := t.TempDir()
	bucket := strings.ToLower(filepath.Base(filepath.Dir(secret))) // memory lasts
	for name, store := range map[string]string{
		"memory": ":memory:" + bucket + "/x",
		"crypt":  ":crypt,remote='" + secret + "',password=" + obscure.MustObscure("pass") + ":deltas",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := here(t, dir)
			for night, want := range nights(t, f, dir, store, 3, 3<<20+5) {
				restored(t, f, dir, store, night, want)
			}
		})
	}
	if all, err := filepath.Glob(secret + "/*/*"); err != nil || len(all) != 3 {
		t.Errorf("%q, %v", all, err)
	}
}

// With receipts the next delta follows the last one by itself, and the device is checked by them.
func TestDeltas_Latest(t *testing.T) {
	dir, store, receipts := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "new")
	f := here(t, dir)
	f.(*Fs).opt.Receipt = receipts
	data := edges.Contents()[1].Make(5<<20, 1)
	latest := map[string]string{"since": "latest"}
	for night := range 3 {
		write(t, dir+"/img", data)
		out, err := runCommand(t, f, "delta", latest, "img", fmt.Sprintf("%s/%d.delta", store, night))
		if err != nil {
			t.Fatal(err)
		}
		res := out.(*deltaResult)
		r, m, err := receipt.Open(res.Receipt)
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
		if res.Full != (night == 0) || r.Delta != fmt.Sprintf("local:%s/%d.delta", store, night) || r.Root != res.Root || r.Target.Name != "localhost:"+dir+"/img" {
			t.Errorf("%+v %+v", res, r)
		}
		if night > 0 && (res.Extents != 1 || res.Changed != 1<<20) {
			t.Errorf("%+v", res)
		}
		if _, err := runCommand(t, f, "verify", map[string]string{"receipt": res.Receipt}, "img"); err != nil {
			t.Error(err)
		}
		data[1<<20+night] ^= 1
	}
	if all, _ := os.ReadDir(receipts); len(all) != 6 {
		t.Errorf("%d files", len(all))
	}
	// Another folder begins a chain of its own; a delta that is gone is not followed.
	if out, err := runCommand(t, f, "delta", latest, "img", store+"/below/0.delta"); err != nil || !out.(*deltaResult).Full {
		t.Errorf("%v", err)
	}
	if err := os.Remove(store + "/2.delta"); err != nil {
		t.Fatal(err)
	}
	if _, err := runCommand(t, f, "delta", latest, "img", store+"/3.delta"); err == nil || !strings.Contains(err.Error(), "2.delta") {
		t.Errorf("%v", err)
	}
	// The receipt of a state is enough, without its delta.
	files, err := filepath.Glob(receipts + "/*.json")
	if err != nil || len(files) != 4 {
		t.Fatalf("%q, %v", files, err)
	}
	if out, err := runCommand(t, f, "delta", map[string]string{"since": files[0]}, "img", store+"/3.delta"); err != nil || out.(*deltaResult).Extents != 1 {
		t.Errorf("%v", err)
	}
}

// A delta has the blocks of the receipt that it is since.
func TestDeltas_BlockSize(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir)
	data := edges.Contents()[2].Make(3<<20+700, 1)
	ctx := WithPlan(t.Context(), &Plan{Receipt: dir + "/r.json", BlockSize: 512})
	if _, err := f.Put(ctx, bytes.NewReader(data), info("img", int64(len(data)))); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/copy", data)
	for at := 0; at < 1<<20; at += 1024 { // every other block
		clear(data[at : at+512])
		data[at+700] ^= 1
	}
	write(t, dir+"/img", data)
	out, err := runCommand(t, f, "delta", map[string]string{"since": dir + "/r.json"}, "img", dir+"/1.delta")
	if err != nil || out.(*deltaResult).Extents != 1 || out.(*deltaResult).Zeroed < 512<<10 {
		t.Fatalf("%+v, %v", out, err)
	}
	if _, err := runCommand(t, f, "apply", nil, "copy", dir+"/1.delta"); err != nil {
		t.Error(err)
	}
	same(t, dir+"/copy", data)
}

// A delta that cannot be completed leaves neither itself nor a receipt; what is there is not replaced.
func TestDeltas_Refused(t *testing.T) {
	dir, store := t.TempDir(), t.TempDir()
	f := here(t, dir)
	f.(*Fs).opt.Receipt = t.TempDir()
	write(t, dir+"/img", edges.Contents()[1].Make(3<<20, 1))
	write(t, store+"/there", []byte("old"))
	for name, tt := range map[string]struct {
		want string
		opt  map[string]string
		args []string
	}{
		"there":         {"never replaced", nil, []string{"img", store + "/there"}},
		"a folder":      {"names a folder", nil, []string{"img", store + "/"}},
		"no device":     {"not found", nil, []string{"none", store + "/new"}},
		"no state":      {"object not found", map[string]string{"since": store + "/none"}, []string{"img", store + "/new"}},
		"no delta":      {deltafile.ErrFormat.Error(), map[string]string{"since": store + "/there"}, []string{"img", store + "/new"}},
		"no receipt":    {"no such file", map[string]string{"since": store + "/none.json"}, []string{"img", store + "/new"}},
		"a device node": {"never replaced", nil, []string{"img", "blockdev:localhost" + dir + "/img"}},
	} {
		if _, err := runCommand(t, f, "delta", tt.opt, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	same(t, store+"/there", []byte("old"))
	if all, _ := os.ReadDir(store); len(all) != 1 {
		t.Errorf("left %v", all)
	}
	if all, _ := os.ReadDir(f.(*Fs).opt.Receipt); len(all) != 0 {
		t.Errorf("left %v", all)
	}
	for _, opt := range []map[string]string{{"continue": "perhaps"}, {"until": "x"}} {
		if _, err := runCommand(t, f, "apply", opt, "img", store+"/there"); err == nil {
			t.Errorf("%v: no error", opt)
		}
	}
}
