package tool

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
)

// runTool runs a command with nothing on standard input.
func runTool(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	return runWith(t, null, args...)
}

func runWith(t *testing.T, in *os.File, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code, known := Run(context.Background(), args, Std{In: in, Out: &out, Err: &errs})
	if !known {
		t.Fatalf("%q is no command", args)
	}
	return code, out.String(), errs.String()
}

func put(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// made is a manifest of a file.
func made(t *testing.T, path string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "manifest")
	if code, _, errs := runTool(t, append([]string{"digest", "-o", out, path}, flags...)...); code != 0 {
		t.Fatalf("%d: %s", code, errs)
	}
	return out
}

// wantRoot is the root of data, from the definition and the standard library.
func wantRoot(data []byte, blockSize int) string {
	root := sha256.New()
	root.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(blockSize)), uint64(len(data))))
	for extent := range slices.Chunk(data, 1<<20) {
		digests := sha256.New()
		for b := range slices.Chunk(extent, blockSize) {
			d := sha256.Sum256(b)
			digests.Write(d[:])
		}
		root.Write(digests.Sum(nil))
	}
	return hex.EncodeToString(root.Sum(nil))
}

// spansOf are the runs of units in which a and b differ, and what only one of them has.
func spansOf(a, b []byte, unit int) (spans []span) {
	add := func(off, n int64) {
		if last := len(spans) - 1; n > 0 && last >= 0 && spans[last].off+spans[last].n == off {
			spans[last].n += n
		} else if n > 0 {
			spans = append(spans, span{off, n})
		}
	}
	common := min(len(a), len(b))
	for at := 0; at < common; at += unit {
		n := min(unit, common-at)
		if !bytes.Equal(a[at:at+n], b[at:at+n]) {
			add(int64(at), int64(n))
		}
	}
	add(int64(common), int64(max(len(a), len(b))-common))
	return spans
}

// found are the ranges that a command has named on its lines of text.
func found(t *testing.T, stdout string) (spans []span) {
	t.Helper()
	for line := range strings.Lines(stdout) {
		var s span
		if strings.HasPrefix(line, "at byte ") {
			if _, err := fmt.Sscanf(line, "at byte %d: %d bytes differ", &s.off, &s.n); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			spans = append(spans, s)
		}
	}
	return spans
}

// Two of everything there is are compared, in both orders: images to the block, manifests to the extent, in which what
// only one of them has counts from the last extent that both have whole.
func TestCompare(t *testing.T) {
	for _, size := range edges.Sizes() {
		a := edges.Contents()[2].Make(size, 1)
		pathA := put(t, "a.img", a)
		manA := made(t, pathA)
		for _, target := range edges.Targets(a) {
			if target.Data == nil {
				continue
			}
			b := target.Data
			pathB := put(t, "b.img", b)
			manB := made(t, pathB)
			exact := spansOf(a, b, 4096)
			for name, pair := range map[string][2]string{
				"images": {pathA, pathB}, "image and manifest": {pathA, manB}, "manifest and image": {manA, pathB}, "manifests": {manA, manB},
			} {
				want := exact
				if name != "images" {
					longer := len(a) > len(b) && pair[0] == manA || len(b) > len(a) && pair[1] == manB
					want = coarse(a, b, longer)
				}
				code, stdout, stderr := runTool(t, "compare", pair[0], pair[1])
				if got := found(t, stdout); code != min(len(exact), 1) || !slices.Equal(got, want) || stderr != "" {
					t.Errorf("%d bytes, %s, %s: exit code %d, %v, want %v\n%s%s", size, target.Name, name, code, got, want, stdout, stderr)
				}
				if root := wantRoot(a, 4096); code == 0 && !strings.Contains(stdout, root) {
					t.Errorf("%d bytes, %s: root is not %s\n%s", size, name, root, stdout)
				}
			}
		}
	}
}

// coarse is spansOf at the granularity of manifests. longer says that the longer one is a manifest.
func coarse(a, b []byte, longer bool) []span {
	common := min(len(a), len(b))
	if longer {
		common -= common % edges.Extent
	}
	spans := spansOf(a[:common], b[:common], edges.Extent)
	rest := span{int64(common), int64(max(len(a), len(b)) - common)}
	if last := len(spans) - 1; rest.n > 0 && last >= 0 && spans[last].off+spans[last].n == rest.off {
		spans[last].n += rest.n
	} else if rest.n > 0 {
		spans = append(spans, rest)
	}
	return spans
}

func TestRoot(t *testing.T) {
	for _, size := range edges.Sizes() {
		data := edges.Contents()[1].Make(size, 1)
		path := put(t, "a.img", data)
		for _, blockSize := range []int{512, 4096, 1 << 20} {
			flag := fmt.Sprintf("--block-size=%d", blockSize)
			want := wantRoot(data, blockSize) + "  "
			if code, stdout, stderr := runTool(t, "root", path, flag); code != 0 || stdout != want+path+"\n" || stderr != "" {
				t.Errorf("%d in blocks of %d: %d %q %q", size, blockSize, code, stdout, stderr)
			}
			m := made(t, path, flag)
			if code, stdout, _ := runTool(t, "root", m); code != 0 || stdout != want+m+"\n" {
				t.Errorf("%d in blocks of %d: the manifest has %q", size, blockSize, stdout)
			}
		}
	}
}

func TestVerify(t *testing.T) {
	data := edges.Contents()[2].Make(3<<20+513, 1)
	path := put(t, "a.img", data)
	m := made(t, path, "--block-size", "64Ki")
	if code, stdout, stderr := runTool(t, "verify", path, m); code != 0 || !strings.Contains(stdout, "are equal: 3.000Mi") || stderr != "" {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	data[1<<20+5] ^= 1
	data[len(data)-1] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ := runTool(t, "verify", path, m)
	if want := []span{{1 << 20, 1 << 20}, {3 << 20, 513}}; code != 1 || !slices.Equal(found(t, stdout), want) {
		t.Errorf("%d %q", code, stdout)
	}
	if code, stdout, _ := runTool(t, "verify", "-q", path, m); code != 1 || stdout != "" {
		t.Errorf("%d %q", code, stdout)
	}
	if code, _, stderr := runTool(t, "verify", path, path); code != 2 || !strings.Contains(stderr, "no manifest") {
		t.Errorf("%d %q", code, stderr)
	}
	// One that was damaged is no ground for a verdict.
	b, err := os.ReadFile(m)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if code, _, stderr := runTool(t, "verify", path, put(t, "damaged", b)); code != 2 || !strings.Contains(stderr, "damaged") {
		t.Errorf("%d %q", code, stderr)
	}
}

// A manifest that comes through a pipe, as from another host.
func TestCompare_Pipe(t *testing.T) {
	path := put(t, "a.img", edges.Contents()[1].Make(5<<20, 1))
	b, err := os.ReadFile(made(t, path))
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []bool{true, false} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = w.Write(b[:len(b)-map[bool]int{true: 0, false: 1}[good]])
			_ = w.Close()
		}()
		code, stdout, stderr := runWith(t, r, "compare", "-", path)
		r.Close()
		if good != (code == 0) || !good && (code != 2 || !strings.Contains(stderr, "standard input")) {
			t.Errorf("%v: %d %q %q", good, code, stdout, stderr)
		}
	}
}

func TestDigest(t *testing.T) {
	data := make([]byte, 2<<20+5)
	data[0] = 1
	path := put(t, "a.img", data)
	code, stdout, stderr := runTool(t, "digest", path)
	m, err := manifest.Read(strings.NewReader(stdout), int64(len(stdout)))
	if code != 0 || err != nil || m.Path != path || m.Size != int64(len(data)) || hexDigest(m.Root) != wantRoot(data, 4096) {
		t.Errorf("%d, %v, %q", code, err, stderr)
	}
	if !strings.Contains(stderr, "3 extents, 2 of them zero") {
		t.Errorf("%q", stderr)
	}
	// Twice to the same file, but never in the place of something else.
	out := made(t, path)
	if code, stdout, _ := runTool(t, "digest", path, "-o", out); code != 0 || !strings.Contains(stdout, "3 extents") {
		t.Errorf("%d %q", code, stdout)
	}
	for _, bad := range []string{path, filepath.Dir(path), os.DevNull, "/dev/no-such-disk", filepath.Join(path, "below")} {
		if code, _, stderr := runTool(t, "digest", path, "-o", bad); code != 2 || !strings.Contains(stderr, bad) {
			t.Errorf("%s: %d %q", bad, code, stderr)
		}
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, data) {
		t.Error("the image was written")
	}
	if code, _, stderr := runTool(t, "digest", "--json", path); code != 2 || !strings.Contains(stderr, "-o") {
		t.Errorf("%d %q", code, stderr)
	}
}

func TestUsage(t *testing.T) {
	path := put(t, "a.img", []byte("some"))
	small, large := made(t, path, "--block-size=512"), made(t, path)
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no argument":      {[]string{"root"}, "0 arguments, not 1"},
		"one too many":     {[]string{"root", path, path}, "2 arguments, not 1"},
		"unknown flag":     {[]string{"root", "--fast", path}, "fast"},
		"odd block size":   {[]string{"root", path, "--block-size", "5000"}, "power of two"},
		"no block size":    {[]string{"root", path, "--block-size", "x"}, "no number of bytes"},
		"huge block size":  {[]string{"root", path, "--block-size", "99999999999999999999"}, "no number of bytes"},
		"direct":           {[]string{"root", path, "--direct", "yes"}, "auto, on, off"},
		"json and quiet":   {[]string{"root", path, "--json", "-q"}, "use one of them"},
		"other blocks":     {[]string{"compare", small, large}, "blocks of 4Ki, not of 512"},
		"other flag":       {[]string{"compare", large, path, "--block-size=1Mi"}, "blocks of 4Ki, not of 1Mi"},
		"twice input":      {[]string{"compare", "-", "-"}, "both"},
		"empty input":      {[]string{"compare", "-", path}, "standard input"},
		"not there":        {[]string{"root", path + "x"}, "a.imgx"},
		"a directory":      {[]string{"info", os.DevNull}, "character device"},
		"after two dashes": {[]string{"root", "--", "--json"}, "--json"},
	} {
		code, stdout, stderr := runTool(t, tt.args...)
		if code != ExitTrouble || stdout != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: %d %q %q", name, code, stdout, stderr)
		}
	}
	for _, c := range commands {
		code, stdout, _ := runTool(t, c.name, "--help")
		if code != 0 || !strings.Contains(stdout, "Examples:\n  ") || !strings.Contains(stdout, "Exit codes: 0") {
			t.Errorf("%s: %d %q", c.name, code, stdout)
		}
		for line := range strings.Lines(stdout) {
			if len(line) > 100 {
				t.Errorf("%s: long line %q", c.name, line)
			}
		}
	}
}

func TestParseBlockSize(t *testing.T) {
	for s, want := range map[string]int{"512": 512, "4096": 4096, "4K": 4096, "4Ki": 4096, "64KiB": 65536, "64kb": 65536, "1M": 1 << 20, "1Mi": 1 << 20} {
		if n, err := parseBlockSize(s); err != nil || n != want {
			t.Errorf("%s: %d, %v", s, n, err)
		}
	}
	for _, s := range []string{"", "0", "-4096", "4096x", "Ki", "2Mi", "1Gi", "4 Ki", "256", "1048577Mi"} {
		if n, err := parseBlockSize(s); err == nil {
			t.Errorf("%q: %d", s, n)
		}
	}
}

func TestInfo(t *testing.T) {
	path := put(t, "a.img", make([]byte, 2<<20))
	if code, stdout, _ := runTool(t, "info", path); code != 0 || !strings.Contains(stdout, "2097152 (2Mi)") || !strings.Contains(stdout, "file\n") {
		t.Errorf("%d %q", code, stdout)
	}
	for name, want := range map[string]map[string]any{
		path:          {"event": "info", "kind": "file", "size": 2.0 * (1 << 20), "name": path},
		made(t, path): {"event": "info", "kind": "manifest", "size": 2.0 * (1 << 20), "path": path, "extents": 2.0, "zero-extents": 2.0, "block-size": 4096.0},
	} {
		_, stdout, _ := runTool(t, "info", "--json", name)
		var got map[string]any
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || strings.Count(stdout, "\n") != 1 {
			t.Fatalf("%q: %v", stdout, err)
		}
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s: %s is %v, not %v", name, key, got[key], value)
			}
		}
	}
	if v := device.Values([]device.Property{{Key: "ids", Value: "a=1"}, {Key: "ids", Value: "b=2"}})["ids"]; !slices.Equal(v.([]string), []string{"a=1", "b=2"}) {
		t.Errorf("%v", v)
	}
}
