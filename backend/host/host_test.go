package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/bundle"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// fakeHelper is a helper that echoes what it gets after the magic.
const fakeHelper = `#!/bin/sh
case $1 in version) echo fake;; serve) printf '\000\377blkdev'; exec cat;; *) exit 9;; esac
`

// withHelper makes d believe that the bundle holds content for this platform,
// and counts how often it is unpacked.
func withHelper(d *deployer, content string) (unpacked *atomic.Int32) {
	sum := sha256.Sum256([]byte(content))
	hash := hex.EncodeToString(sum[:])
	unpacked = new(atomic.Int32)
	d.entries = func() ([]bundle.Entry, error) {
		p := bundle.Platform{OS: runtime.GOOS, Arch: runtime.GOARCH}
		return []bundle.Entry{{Platform: p, SHA256: hash, Size: int64(len(content))}}, nil
	}
	d.open = func(string, string) (bundle.Helper, error) {
		unpacked.Add(1)
		return bundle.Helper{SHA256: hash, Bytes: []byte(content)}, nil
	}
	return unpacked
}

// shellConn runs the commands of a Conn in a local shell, as sshd would.
func shellConn(t *testing.T, cfg Config, shell ...string) *deployer {
	t.Helper()
	if cfg.Host == "" {
		cfg.Host = "testhost"
	}
	argv := func(command string) []string { return append(append([]string{}, shell...), "-c", command) }
	d := newDeployer(cfg, &program{cfg: cfg, argv: argv, closed: make(chan struct{})})
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// home makes an empty home directory with a runtime directory beside it, for
// the commands of shellConn.
func home(t *testing.T) (home, runtimeDir string) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // other users may pass
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	home, runtimeDir = filepath.Join(dir, "home"), filepath.Join(dir, "runtime")
	for _, d := range []string{home, runtimeDir} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", home)
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("XDG_RUNTIME_DIR", runtimeDir)
	return home, runtimeDir
}

// echo proves that s begins with the magic and works both ways.
func echo(t *testing.T, s *Stream) {
	t.Helper()
	if _, err := s.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if err := s.proc.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if err != nil || string(got) != wire.Magic+"ping" {
		t.Fatalf("got %q, %v; %s", got, err, s.Diagnosis())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// start starts a helper and checks its stream.
func start(t *testing.T, c Conn) {
	t.Helper()
	s, err := c.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	echo(t, s)
}

// wantError checks the class of an error, and that its text is one line that
// holds all the words.
func wantError(t *testing.T, err error, kind Kind, retryable bool, words ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v (%T), want *Error", err, err)
	}
	if e.Kind != kind || e.Retryable != retryable {
		t.Errorf("kind %d retryable %v, want %d %v: %v", e.Kind, e.Retryable, kind, retryable, err)
	}
	if strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("error has several lines: %q", err.Error())
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error lacks %q: %v", word, err)
		}
	}
}

// stored lists the helpers kept below dir.
func stored(t *testing.T, dir string) []string {
	t.Helper()
	dir = filepath.Join(dir, "rclone-blockdev")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, filepath.Join(dir, e.Name()))
	}
	return list
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}
