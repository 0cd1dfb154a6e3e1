package bundle

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"crypto/sha256"

	"github.com/klauspost/compress/zstd"
)

var content = []byte(strings.Repeat("helper ", 1000))

// files is a bundle that holds content for linux/amd64.
func files(t *testing.T, manifest string) fstest.MapFS {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{
		"data/README":          {Data: []byte("placeholder")},
		"data/linux-amd64.zst": {Data: w.EncodeAll(content, nil)},
		"data/manifest":        {Data: []byte(manifest)},
	}
}

func goodLine() string {
	return fmt.Sprintf("linux-amd64 %x %d\n", sha256.Sum256(content), len(content))
}

func TestOpen(t *testing.T) {
	h, err := open(files(t, goodLine()), Platform{OS: "linux", Arch: "amd64"})
	if err != nil || string(h.Bytes) != string(content) || h.SHA256 != fmt.Sprintf("%x", sha256.Sum256(content)) {
		t.Errorf("got %d bytes, %s, %v", len(h.Bytes), h.SHA256, err)
	}
}

func TestOpen_Err(t *testing.T) {
	amd64 := Platform{OS: "linux", Arch: "amd64"}
	tests := map[string]struct {
		files    fstest.MapFS
		platform Platform
		want     error // nil: any
	}{
		"not generated":    {fstest.MapFS{"data/README": {}}, amd64, ErrNotGenerated},
		"partly generated": {files(t, goodLine()), Platform{OS: "linux", Arch: "arm64"}, ErrNotGenerated},
		"unsupported":      {files(t, goodLine()), Platform{OS: "Linux", Arch: "mips"}, ErrUnsupported},
		"hostile name":     {files(t, goodLine()), Platform{OS: "..", Arch: "x"}, ErrUnsupported},
		"other content":    {files(t, strings.Replace(goodLine(), goodLine()[12:76], strings.Repeat("0", 64), 1)), amd64, ErrNotGenerated},
		"short line":       {files(t, "linux-amd64 00\n"), amd64, nil},
		"short hash":       {files(t, "linux-amd64 00 1\n"), amd64, nil},
		"unknown platform": {files(t, "dos-8086"+goodLine()[11:]), amd64, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := open(tt.files, tt.platform)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	if !strings.Contains(ErrNotGenerated.Error(), "go generate ./...") {
		t.Error(ErrNotGenerated)
	}
}

func TestOpen_Damaged(t *testing.T) {
	f := files(t, goodLine())
	f["data/linux-amd64.zst"].Data = f["data/linux-amd64.zst"].Data[:20]
	if _, err := open(f, Platform{OS: "linux", Arch: "amd64"}); err == nil {
		t.Error("a cut file was accepted")
	}
	delete(f, "data/linux-amd64.zst")
	if _, err := open(f, Platform{OS: "linux", Arch: "amd64"}); err == nil {
		t.Error("a missing file was accepted")
	}
}

// What this build embeds, complete or not, is intact.
func TestEntries(t *testing.T) {
	list, err := Entries()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		h, err := Open(e.Platform.OS, e.Platform.Arch)
		if err != nil || int64(len(h.Bytes)) != e.Size {
			t.Errorf("%s: %v", e.Platform, err)
		}
		if e.Size > 5<<20 {
			t.Errorf("%s: %d bytes, the limit is 5 MiB", e.Platform, e.Size)
		}
	}
}

func TestManifestName(t *testing.T) {
	text, err := os.ReadFile("pack/main.go")
	if err != nil || !strings.Contains(string(text), fmt.Sprintf("const manifestName = %q", ManifestName)) {
		t.Errorf("pack writes another file: %v", err)
	}
}
