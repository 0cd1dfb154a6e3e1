package blockdev

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// run runs a backend command and returns what it prints, decoded.
func run(t *testing.T, f fs.Fs, name string, arg ...string) (map[string]any, error) {
	t.Helper()
	return runWith(t, t.Context(), f, nil, name, arg...)
}

func runWith(t *testing.T, ctx context.Context, f fs.Fs, opt map[string]string, name string, arg ...string) (out map[string]any, err error) {
	t.Helper()
	got, err := f.Features().Command(ctx, name, arg, opt)
	if err != nil || got == nil {
		return nil, err
	}
	text, err := json.Marshal(got)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return out, nil
}

func TestCommand_Errors(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a", []byte("a"))
	f := here(t, dir)
	if _, err := f.Features().Command(t.Context(), "NOTFOUND", nil, nil); err != fs.ErrorCommandNotFound {
		t.Errorf("got %v", err)
	}
	for _, c := range []struct {
		f       string // a remote, this directory when empty
		command string
		opt     map[string]string
		want    string // in the error
	}{
		{"", "info", nil, "takes 1 (name)"},
		{"", "info a b", nil, "takes 1 (name)"},
		{"", "diff a", nil, "takes 2 (source name, target remote)"},
		{"", "ping a", nil, "takes no arguments"},
		{"", "root a", map[string]string{"size": "1"}, `the option "size": it has none`},
		{"", "ping", map[string]string{"sizes": "1"}, "it has count, size"},
		{"", "ping", map[string]string{"size": "many"}, "option size"},
		{"", "ping", map[string]string{"size": "-1"}, "option size"},
		{"", "ping", map[string]string{"count": "0"}, "option count"},
		{"", "info none", nil, dir + "/none"},
		{"", "root .", nil, "directory"},
		{"", "diff a blockdev:localhost" + dir + "/none", nil, dir + "/none"},
		{"", "diff a blockdev:localhost", nil, "names no device"},
		{"", "diff a :memory:bucket/a", nil, "type memory"},
		{"", "diff a nosuchremote:a", nil, "nosuchremote"},
		{"", "verify a " + dir + "/a", nil, "is the same file as"},
		{"", "diff a blockdev:localhost" + dir + "/a", nil, "is the same file as"},
		{"", "deploy", nil, "needs no helper"},
		{"", "undeploy", nil, "needs no helper"},
		{"blockdev:", "ping", nil, "no host is named"},
		{"blockdev:", "info localhost", nil, "names no device"},
		{"blockdev:", "deploy", nil, "no host is named"},
	} {
		remote := f
		if c.f != "" {
			remote = newFs(t, c.f)
		}
		words := strings.Fields(c.command)
		if _, err := runWith(t, t.Context(), remote, c.opt, words[0], words[1:]...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s%s: got %v, want %q", c.f, c.command, err, c.want)
		}
	}
	ctx, ci := fs.AddConfig(t.Context())
	ci.DryRun = true
	for _, name := range []string{"deploy", "undeploy"} {
		if out, err := runWith(t, ctx, f, nil, name); err != nil || out != nil {
			t.Errorf("%s --dry-run: %v, %v", name, out, err)
		}
	}
}

func TestCommand_Info(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a", make([]byte, 5000))
	out, err := run(t, here(t, dir), "info", "a")
	if err != nil || out["kind"] != "file" || out["size"] != 5000.0 || out["name"] != "a" || out["host"] != "localhost" || out["path"] != dir+"/a" {
		t.Errorf("%v, %v", out, err)
	}
	d, f, o := loop(t, make([]byte, 1<<20))
	upper := harness.LoopOn(t, d.Path)
	out, err = run(t, f, "info", o.Remote())
	uses, _ := out["in-use"].([]any)
	if err != nil || out["kind"] != "device" || out["logical-sector-size"] != 512.0 || out["read-only"] != false || out["discard"] != true ||
		len(uses) != 1 || !strings.Contains(uses[0].(string), upper.Path) {
		t.Errorf("%v, %v", out, err)
	}
	for key := range out {
		known := key == "host" || key == "name"
		for _, f := range facts {
			known = known || f.key == key
		}
		if !known {
			t.Errorf("%s is not documented", key)
		}
	}
}

// What diff says is what the copy then does. It writes nothing.
func TestCommand_Diff(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	f, g := here(t, from), newFs(t, "blockdev:localhost"+to)
	for i, size := range edges.Sizes() {
		data := edges.Contents()[i%len(edges.Contents())].Make(size, 1)
		for _, target := range edges.Targets(data) {
			if target.Data == nil {
				continue
			}
			write(t, from+"/a", data)
			write(t, to+"/b", target.Data)
			said, err := run(t, f, "diff", "a", "blockdev:localhost"+to+"/b")
			if err != nil {
				t.Fatalf("%d %s: %v", size, target.Name, err)
			}
			same(t, to+"/b", target.Data)
			l := listen(t)
			if _, err := g.Features().Copy(t.Context(), find(t, f, "a"), "b"); err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"scanned", "equal", "changed", "zeroed"} {
				if want := float64(l.counter(key)); said[key] != want {
					t.Errorf("%d %s: said %s %v, did %v", size, target.Name, key, said[key], want)
				}
			}
			if said["sourceSize"] != float64(size) || said["targetSize"] != float64(len(target.Data)) || said["blockSize"] != 4096.0 || said["wire"] != 0.0 {
				t.Errorf("%d %s: %v", size, target.Name, said)
			}
			if n := said["changed"].(float64); said["changedBlocks"] != float64((int64(n)+4095)/4096) {
				t.Errorf("%d %s: %v bytes are %v blocks", size, target.Name, n, said["changedBlocks"])
			}
		}
	}
}

// More than one stripe, of which the last one goes past the end of the target.
func TestCommand_Diff_stripes(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int64{"a": 1<<30 + 5, "b": 700<<20 + 3} {
		write(t, filepath.Join(dir, name), nil)
		if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
			t.Fatal(err)
		}
	}
	a, err := os.OpenFile(dir+"/a", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, at := range []int64{0, 300 << 20, 700 << 20, 1 << 30} {
		if _, err := a.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	out, err := run(t, here(t, dir), "diff", "a", dir+"/b")
	if err != nil || out["scanned"] != float64(1<<30+5) || out["changed"] != float64(3*4096+5) || out["changedBlocks"] != 4.0 || out["zeroed"] != 0.0 {
		t.Errorf("%v, %v", out, err)
	}
}

// Sizes are judged as the copy would.
func TestCommand_Diff_sizes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/small", make([]byte, 4096))
	write(t, dir+"/large", []byte(strings.Repeat("x", 12288)))
	d, _, _ := loop(t, make([]byte, 8192))
	f := newFs(t, "blockdev:localhost"+dir)
	for _, name := range []string{"small", "large"} {
		if _, err := run(t, f, "diff", name, "blockdev:localhost"+d.Path); err == nil || !strings.Contains(err.Error(), "--ignore-size") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, ci := fs.AddConfig(t.Context())
	ci.IgnoreSize = true
	out, err := runWith(t, ctx, f, nil, "diff", "large", d.Path)
	if err != nil || out["scanned"] != 8192.0 || out["changed"] != 8192.0 || out["changedBlocks"] != 2.0 {
		t.Errorf("%v, %v", out, err)
	}
	holds(t, d, make([]byte, 8192))
}

func TestCommand_Verify(t *testing.T) {
	dir := t.TempDir()
	data := edges.Contents()[1].Make(3<<20+5, 1)
	other := append([]byte{}, data...)
	other[2<<20] ^= 1
	for name, content := range map[string][]byte{"a": data, "same": data, "other": other, "short": data[:3<<20]} {
		write(t, filepath.Join(dir, name), content)
	}
	f := here(t, dir)
	root, err := run(t, f, "root", "a")
	if err != nil || root["size"] != float64(len(data)) || root["blockSize"] != 4096.0 || len(root["root"].(string)) != 64 {
		t.Errorf("%v, %v", root, err)
	}
	out, err := run(t, f, "verify", "a", "blockdev:localhost"+dir+"/same")
	if err != nil || out["equal"] != true || out["root"] != root["root"] || out["size"] != root["size"] {
		t.Errorf("%v, %v", out, err)
	}
	if _, err := run(t, f, "verify", "a", dir+"/other"); err == nil || !strings.Contains(err.Error(), "differ: their roots are "+root["root"].(string)) {
		t.Errorf("other content: %v", err)
	}
	if _, err := run(t, f, "verify", "a", dir+"/short"); err == nil || !strings.Contains(err.Error(), "differ: they have 3145733 and 3145728 bytes") {
		t.Errorf("other size: %v", err)
	}
	ctx, ci := fs.AddConfig(t.Context())
	ci.IgnoreSize = true
	if out, err := runWith(t, ctx, f, nil, "verify", "a", dir+"/short"); err != nil || out["size"] != float64(3<<20) {
		t.Errorf("the common part: %v, %v", out, err)
	}
}

func TestCommand_Ping(t *testing.T) {
	out, err := runWith(t, t.Context(), here(t, t.TempDir()), map[string]string{"size": "1Mi", "count": "3"}, "ping")
	if err != nil || out["protocol"] != 1.0 || out["bytes"] != float64(1<<20) || out["throughput"].(float64) <= 0 || out["helper"] == "" {
		t.Errorf("%v, %v", out, err)
	}
	if best, avg := out["roundTripMs"].(float64), out["roundTripAvgMs"].(float64); best > avg {
		t.Errorf("the best of %v is %v", avg, best)
	}
	out, err = runWith(t, t.Context(), here(t, t.TempDir()), map[string]string{"size": "0"}, "ping")
	if err != nil || out["bytes"] != 0.0 || out["throughput"] != 0.0 {
		t.Errorf("%v, %v", out, err)
	}
}

func TestAnywhere(t *testing.T) {
	t.Setenv("RCLONE_CONFIG_VMHOST_TYPE", "blockdev")
	t.Setenv("RCLONE_CONFIG_VMHOST_HOST", "192.0.2.7")
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for remote, want := range map[string]string{
		"/srv/a.img":                        "localhost:/srv/a.img",
		"/srv/x/../a.img":                   "localhost:/srv/a.img",
		"a.img":                             "localhost:" + wd + "/a.img",
		":local:/srv/a.img":                 "localhost:/srv/a.img",
		"blockdev:localhost/dev/sda":        "localhost:/dev/sda",
		"blockdev:host/dev/sda/":            "host:/dev/sda",
		"blockdev:user@host:2222/dev/v/m":   "host:/dev/v/m",
		"vmhost:/dev/sda":                   "192.0.2.7:/dev/sda",
		"vmhost:sda":                        "192.0.2.7:/sda",
		":blockdev,host=192.0.2.9:/dev/sdb": "192.0.2.9:/dev/sdb",
	} {
		if got, err := anywhere(t.Context(), remote); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v; want %s", remote, got, err, want)
		}
	}
}

func TestMetadata(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a", make([]byte, 5000))
	if err := os.Chtimes(dir+"/a", when, when); err != nil {
		t.Fatal(err)
	}
	f := here(t, dir)
	got, err := find(t, f, "a").(fs.Metadataer).Metadata(t.Context())
	if err != nil || len(got) != 1 || !f.Features().ReadMetadata || f.Features().WriteMetadata {
		t.Errorf("%v, %v", got, err)
	}
	if at, err := fs.ParseTime(got["mtime"]); err != nil || !at.Equal(when) {
		t.Errorf("%v, %v", got, err)
	}
	gone := find(t, f, "a")
	if err := os.Remove(dir + "/a"); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.GetMetadata(t.Context(), gone); err == nil {
		t.Error("metadata of nothing")
	}
	_, _, o := loop(t, make([]byte, 1<<20))
	got, err = o.(fs.Metadataer).Metadata(t.Context())
	if err != nil || got["logical-sector-size"] != "512" || got["read-only"] != "false" || got["removable"] != "false" || got["kind"] != "" || got["mtime"] != "" {
		t.Errorf("%v, %v", got, err)
	}
	info, err := fs.Find(Name)
	if err != nil {
		t.Fatal(err)
	}
	for key, help := range info.MetadataInfo.System {
		if key != strings.ToLower(key) || help.Help == "" || help.Type == "" || help.Example == "" || !help.ReadOnly {
			t.Errorf("%s: %+v", key, help)
		}
	}
	for key := range got {
		if _, ok := info.MetadataInfo.System[key]; !ok {
			t.Errorf("%s is not documented", key)
		}
	}
}

// A device has one ID whatever it is called, and another one none of it.
func TestObject_ID_names(t *testing.T) {
	d, _, o := loop(t, make([]byte, 1<<20))
	_, _, other := loop(t, make([]byte, 1<<20))
	dir := t.TempDir()
	if err := os.Symlink(d.Path, dir+"/by-name"); err != nil {
		t.Fatal(err)
	}
	link := find(t, newFs(t, "blockdev:localhost"+dir), "by-name").(fs.IDer).ID()
	if id := o.(fs.IDer).ID(); id == "" || link != id || other.(fs.IDer).ID() == id {
		t.Errorf("device %s, by another name %s, another device %s", id, link, other.(fs.IDer).ID())
	}
}
