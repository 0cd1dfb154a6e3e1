package host

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// shellHost is a host that is reached through a local shell.
func shellHost(t *testing.T, cfg Config, content string, shell ...string) *Host {
	t.Helper()
	cfg.Host = "testhost"
	h := newHost(cfg)
	h.dial = func(context.Context, Config) (Conn, error) {
		d := shellConn(t, cfg, shell...)
		withHelper(d, content)
		return d, nil
	}
	t.Cleanup(h.CloseIdle)
	return h
}

// From every login shell the helper is put in place once, found there, and taken away with those of other releases.
func TestHost_Deploy(t *testing.T) {
	for name, shell := range loginShells(t) {
		t.Run(name, func(t *testing.T) {
			dir, runtimeDir := home(t)
			h := shellHost(t, Config{}, fakeHelper, shell...)
			first, err := h.Deploy(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			files := stored(t, dir+"/.cache")
			if !first.Stored || !slices.Equal(files, []string{first.Path}) || first.Platform != runtime.GOOS+"/"+runtime.GOARCH ||
				!strings.HasSuffix(first.Path, "/helper-"+first.SHA256) || len(first.SHA256) != 64 {
				t.Errorf("%+v, stored %v", first, files)
			}
			again, err := h.Deploy(t.Context())
			if first.Stored = false; err != nil || again != first {
				t.Errorf("again: %+v, %v", again, err)
			}
			other, err := shellHost(t, Config{}, fakeHelper+"# another release\n", shell...).Deploy(t.Context())
			if err != nil || !other.Stored || other.Path == first.Path {
				t.Errorf("another release: %+v, %v", other, err)
			}
			mkdir(t, runtimeDir+"/rclone-blockdev")
			foreign, elsewhere := filepath.Join(runtimeDir, "rclone-blockdev", "notes"), filepath.Join(runtimeDir, "rclone-blockdev", "helper-old")
			for _, file := range []string{foreign, elsewhere} {
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			removed, err := h.Undeploy(t.Context())
			want := []string{first.Path, other.Path, elsewhere}
			slices.Sort(removed)
			slices.Sort(want)
			if err != nil || !slices.Equal(removed, want) {
				t.Errorf("removed %v, %v; want %v", removed, err, want)
			}
			if _, err := os.Stat(filepath.Dir(first.Path)); !os.IsNotExist(err) {
				t.Errorf("the empty directory is still there: %v", err)
			}
			if left := stored(t, runtimeDir); !slices.Equal(left, []string{foreign}) {
				t.Errorf("left %v", left)
			}
			if removed, err := h.Undeploy(t.Context()); err != nil || len(removed) != 0 {
				t.Errorf("again: removed %v, %v", removed, err)
			}
			start(t, shellConnWith(t, shell))
		})
	}
}

// shellConnWith is a Conn that has to deploy again.
func shellConnWith(t *testing.T, shell []string) Conn {
	d := shellConn(t, Config{}, shell...)
	withHelper(d, fakeHelper)
	return d
}

func TestHost_Undeploy_foreign(t *testing.T) {
	require.Need(t, require.Root)
	dir, _ := home(t)
	h := shellHost(t, Config{}, fakeHelper, "/bin/sh")
	placed, err := h.Deploy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{placed.Path, filepath.Dir(placed.Path)} { // first the file, then its directory too
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if removed, err := h.Undeploy(t.Context()); err != nil || len(removed) != 0 {
			t.Errorf("removed %v, %v", removed, err)
		}
	}
	if len(stored(t, dir+"/.cache")) != 1 {
		t.Error("what belongs to another user was removed")
	}
}

func TestHost_Deploy_refuses(t *testing.T) {
	home(t)
	_, err := newHost(Config{Host: Localhost}).Deploy(t.Context())
	wantError(t, err, KindConfig, false, "localhost", "no helper")
	_, err = newHost(Config{Host: Localhost}).Undeploy(t.Context())
	wantError(t, err, KindConfig, false, "localhost", "no helper")
	_, err = shellHost(t, Config{HelperPath: "/opt/helper"}, fakeHelper, "/bin/sh").Deploy(t.Context())
	wantError(t, err, KindConfig, false, "testhost", "helper_path")

	// A host that runs its own helper, whatever it is asked.
	forced := filepath.Join(t.TempDir(), "forced")
	if err := os.WriteFile(forced, []byte(strings.ReplaceAll(fakeHelper, "case $1 in", "case serve in")), 0o755); err != nil {
		t.Fatal(err)
	}
	h := shellHost(t, Config{}, fakeHelper, forced)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = h.Deploy(ctx)
	wantError(t, err, KindDeploy, false, "testhost", "forced command")
	_, err = h.Undeploy(ctx)
	wantError(t, err, KindDeploy, false, "testhost", "forced command")

	mute := shellHost(t, Config{}, fakeHelper, "/bin/false")
	_, err = mute.Undeploy(t.Context())
	wantError(t, err, KindDeploy, false, "testhost")
}
