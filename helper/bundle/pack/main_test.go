package main

import (
	"bytes"
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// own is a platform of the bundle that builds fast here: this one.
func own(t *testing.T) string {
	t.Helper()
	name := runtime.GOOS + "-" + runtime.GOARCH
	if list, err := choose(name); err != nil || len(list) != 1 {
		return "linux-amd64"
	}
	return name
}

func readDir(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}

// Two runs give the same bytes, whatever the environment says, and leave
// nothing of other runs behind.
func TestPack_Reproducible(t *testing.T) {
	name := own(t)
	first, second := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(first, "plan9-mips.zst"), []byte("stale"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := pack(name, first, io.Discard); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOAMD64", "v3")
	t.Setenv("GOFLAGS", "-race")
	t.Setenv("CGO_ENABLED", "1")
	if err := pack(name, second, io.Discard); err != nil {
		t.Fatal(err)
	}
	a, b := readDir(t, first), readDir(t, second)
	if len(a) != 2 || a["manifest"] == "" || a["manifest"] != b["manifest"] || a[name+".zst"] != b[name+".zst"] {
		t.Errorf("bundles differ: %d and %d files, %s and %s", len(a), len(b), a["manifest"], b["manifest"])
	}
	checkStatic(t, []byte(a[name+".zst"]))
}

// checkStatic looks at a Linux binary: no interpreter, at most 5 MiB.
func checkStatic(t *testing.T, packed []byte) {
	t.Helper()
	reader, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	binary, err := reader.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(binary) > 5<<20 {
		t.Errorf("%d bytes, the limit is 5 MiB", len(binary))
	}
	file, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		t.Log("not ELF:", err)
		return
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the helper needs a dynamic linker")
		}
	}
}

func TestRun_Err(t *testing.T) {
	var stderr strings.Builder
	if code := run([]string{"-platforms", "dos-8086", "-dir", t.TempDir()}, io.Discard, &stderr); code != 1 ||
		!strings.Contains(stderr.String(), "linux/amd64") {
		t.Errorf("%d, %s", code, stderr.String())
	}
	if code := run([]string{"-nonsense"}, io.Discard, io.Discard); code != 2 {
		t.Errorf("code %d", code)
	}
}
