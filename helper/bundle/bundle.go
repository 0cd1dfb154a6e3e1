// Package bundle holds the helper binaries of all platforms, compressed, so
// that one rclone binary can put the right helper on any host.
//
// "go generate ./..." makes the binaries; they are not committed. In a checkout
// where it has not run, the package compiles and is empty. It may not import
// rclone.
package bundle

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/klauspost/compress/zstd"

	"github.com/rclone-blockdev/rclone-blockdev/helper/bundle/platform"
)

//go:generate go run ./pack

//go:embed all:data
var data embed.FS

// maxSize bounds one unpacked helper, in bytes; it guards against a damaged
// build, not against an attacker.
const maxSize = 32 << 20

// ManifestName is the file in data that lists the helpers, one line each:
// platform file name, SHA-256 in hex, size in bytes.
const ManifestName = "manifest"

// ErrNotGenerated means that this program was built without the helper asked
// for.
var ErrNotGenerated = errors.New("run: go generate ./... and build again, or set helper_path to a helper installed on the host")

// ErrUnsupported means that there is no helper for the platform at all.
var ErrUnsupported = errors.New("no helper exists for this platform")

// Platform is a system and processor in Go's terms.
type Platform = platform.Platform

// Entry describes one helper in the bundle.
type Entry struct {
	Platform Platform
	SHA256   string // of the unpacked binary, 64 hex digits
	Size     int64  // of the unpacked binary, in bytes
}

// Helper is one unpacked binary.
type Helper struct {
	SHA256 string // 64 hex digits
	Bytes  []byte
}

// Entries lists the helpers that are in this build, without unpacking them.
// It is empty where the bundle was not generated.
func Entries() ([]Entry, error) { return entries(data) }

// Open unpacks the helper for a platform. The error wraps ErrNotGenerated or
// ErrUnsupported where it is not there.
func Open(os, arch string) (Helper, error) { return open(data, Platform{OS: os, Arch: arch}) }

func entries(files fs.FS) ([]Entry, error) {
	manifest, err := fs.ReadFile(files, "data/"+ManifestName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("helper bundle: %w", err)
	}
	var list []Entry
	lines := bufio.NewScanner(bytes.NewReader(manifest))
	for lines.Scan() {
		var e Entry
		var name string
		if _, err := fmt.Sscanf(lines.Text(), "%s %s %d", &name, &e.SHA256, &e.Size); err != nil {
			return nil, fmt.Errorf("helper bundle: manifest line %q: %w", lines.Text(), err)
		}
		known := false
		if e.Platform, known = platform.Lookup(name); !known || len(e.SHA256) != 2*sha256.Size {
			return nil, fmt.Errorf("helper bundle: manifest line %q is damaged", lines.Text())
		}
		list = append(list, e)
	}
	return list, lines.Err()
}

func open(files fs.FS, p Platform) (Helper, error) {
	if _, known := platform.Lookup(p.FileName()); !known {
		return Helper{}, fmt.Errorf("%s: %w", p, ErrUnsupported)
	}
	list, err := entries(files)
	if err != nil {
		return Helper{}, err
	}
	for _, e := range list {
		if e.Platform == p {
			return unpack(files, e)
		}
	}
	return Helper{}, fmt.Errorf("this build has no helper for %s: %w", p, ErrNotGenerated)
}

func unpack(files fs.FS, e Entry) (Helper, error) {
	packed, err := fs.ReadFile(files, "data/"+e.Platform.FileName()+".zst")
	if err != nil {
		return Helper{}, fmt.Errorf("helper bundle: %w", err)
	}
	reader, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxSize))
	if err != nil {
		return Helper{}, fmt.Errorf("helper bundle: %w", err)
	}
	defer reader.Close()
	binary, err := reader.DecodeAll(packed, nil)
	if err != nil {
		return Helper{}, fmt.Errorf("helper bundle: %s: %w", e.Platform, err)
	}
	sum := sha256.Sum256(binary)
	if hex.EncodeToString(sum[:]) != e.SHA256 {
		return Helper{}, fmt.Errorf("helper bundle: %s does not match its manifest: %w", e.Platform, ErrNotGenerated)
	}
	return Helper{SHA256: e.SHA256, Bytes: binary}, nil
}
