// Command pack builds the helper for every platform and stores the binaries,
// compressed, where package bundle embeds them. "go generate ./..." runs it.
//
// The same source, Go release and BLOCKDEV_VERSION give the same bytes. That
// variable is the version of a release, such as v1.2.3; without it the helpers
// know none.
package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/rclone-blockdev/rclone-blockdev/helper/bundle/platform"
)

// manifestName must be bundle.ManifestName; a test of that package compares.
const manifestName = "manifest"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("pack", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("platforms", "", "comma separated `list` such as linux-amd64,linux-arm64; blank means all")
	dir := flags.String("dir", "", "`directory` to fill; blank means helper/bundle/data of this module")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if err := pack(*only, *dir, stdout); err != nil {
		fmt.Fprintln(stderr, "pack:", err)
		return 1
	}
	return 0
}

// pack fills dir with exactly the helpers asked for. Others are removed, so
// that a bundle never mixes helpers of different sources.
func pack(only, dir string, progress io.Writer) error {
	platforms, err := choose(only)
	if err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	if dir == "" {
		dir = filepath.Join(root, "helper", "bundle", "data")
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "blockdev-pack-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()

	var manifest bytes.Buffer
	keep := map[string]bool{"README": true, manifestName: true}
	// One platform after the other: a single Go build already uses all cores.
	for _, p := range platforms {
		binary, err := build(root, work, p)
		if err != nil {
			return err
		}
		packed, err := compress(binary)
		if err != nil {
			return err
		}
		name := p.FileName() + ".zst"
		keep[name] = true
		if err := replace(filepath.Join(dir, name), packed); err != nil {
			return err
		}
		fmt.Fprintf(&manifest, "%s %x %d\n", p.FileName(), sha256.Sum256(binary), len(binary))
		fmt.Fprintf(progress, "helper %-14s %d bytes, %d packed\n", p.FileName(), len(binary), len(packed))
	}
	// The manifest goes last: a helper counts from then on.
	if err := replace(filepath.Join(dir, manifestName), manifest.Bytes()); err != nil {
		return err
	}
	return removeOthers(dir, keep)
}

func choose(only string) ([]platform.Platform, error) {
	if only == "" {
		return platform.All(), nil
	}
	var list []platform.Platform
	for name := range strings.SplitSeq(only, ",") {
		p, ok := platform.Lookup(name)
		if !ok {
			return nil, fmt.Errorf("unknown platform %q: one of %v", name, platform.All())
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b platform.Platform) int { return cmp.Compare(a.FileName(), b.FileName()) })
	return slices.Compact(list), nil
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	file := strings.TrimSpace(string(out))
	if file == "" || file == os.DevNull {
		return "", errors.New("not inside the module: run it in the source tree")
	}
	return filepath.Dir(file), nil
}

func build(root, work string, p platform.Platform) ([]byte, error) {
	out := filepath.Join(work, p.FileName())
	ldflags := "-s -w -buildid="
	if version := os.Getenv("BLOCKDEV_VERSION"); version != "" {
		ldflags += " -X github.com/rclone-blockdev/rclone-blockdev/helper.version=" + version
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", out, "./cmd/blockdev-helper")
	cmd.Dir = root
	// Settings of the user's environment must not change the bytes or the
	// processors that the helper runs on. ARMv6 covers every Raspberry Pi.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Arch, "GOFLAGS=", "GOEXPERIMENT=",
		"GOAMD64=v1", "GOARM64=v8.0", "GOARM=6", "GO386=sse2", "GOPPC64=power8", "GORISCV64=rva20u64")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the helper for %s: %w\n%s", p, err, text)
	}
	return os.ReadFile(out)
}

func compress(binary []byte) ([]byte, error) {
	// One thread, since only then are the bytes the same each time.
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return w.EncodeAll(binary, nil), w.Close()
}

// replace writes the file atomically, and not at all when it is already so:
// the Go build cache then has nothing to do.
func replace(name string, content []byte) error {
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, content) {
		return nil
	}
	temporary := name + ".new"
	if err := os.WriteFile(temporary, content, 0o666); err != nil {
		return err
	}
	return os.Rename(temporary, name)
}

func removeOthers(dir string, keep map[string]bool) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if keep[f.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			return err
		}
	}
	return nil
}
