// Package plugin tests the backend in a stock rclone, which loads it as a plugin.
package plugin

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

const size = 8 << 20 // bytes of a disk

// with returns a user of that rclone who has the plugin and no configuration.
func with(t *testing.T, bin string) *harness.Client {
	t.Helper()
	client := harness.ClientOf(t, bin)
	client.Env["RCLONE_PLUGIN_PATH"] = harness.Plugin(t)
	return client
}

// run returns what a command prints, which must succeed.
func run(t *testing.T, client *harness.Client, args ...string) harness.Result {
	t.Helper()
	result := client.Run(t, args...)
	if result.Code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", strings.Join(args, " "), result.Code, result.Stdout, result.Stderr)
	}
	return result
}

// backends counts the backends named blockdev. The log gets what rclone says about a plugin that it cannot load.
func backends(t *testing.T, client *harness.Client) int {
	t.Helper()
	listed := 0
	help := run(t, client, "help", "backends")
	t.Log(help.Stderr)
	for line := range strings.Lines(help.Stdout) {
		if words := strings.Fields(line); len(words) > 0 && words[0] == "blockdev" {
			listed++
		}
	}
	return listed
}

func TestStock(t *testing.T) {
	require.Need(t, require.Cgo)
	stock := harness.StockRclone(t)
	client := with(t, stock.Bin)
	if said := run(t, client, "version").Stdout; !strings.HasPrefix(said, "rclone "+stock.Version) {
		t.Errorf("want rclone %s, it says: %s", stock.Version, said)
	}
	if n := backends(t, client); n != 1 {
		t.Errorf("with the plugin it lists %d backends named blockdev", n)
	}
	if help := run(t, client, "help", "backend", "blockdev").Stdout; !strings.Contains(help, "--blockdev-host") {
		t.Errorf("the help of the backend does not have its options:\n%s", help)
	}
	if help := run(t, client, "backend", "help", "blockdev").Stdout; !strings.Contains(help, "### info") {
		t.Errorf("the help of the backend's commands does not have them:\n%s", help)
	}
	if n := backends(t, harness.ClientOf(t, stock.Bin)); n != 0 {
		t.Errorf("without the plugin it lists %d backends named blockdev", n)
	}
}

// TestStock_Copy types what a user types who has nothing but the plugin and a key.
func TestStock_Copy(t *testing.T) {
	require.Need(t, require.Cgo, require.Root, require.Loop, require.Sshd)
	client := with(t, harness.StockRclone(t).Bin)
	server := harness.Sshd(t)
	login(t, client, server)
	image := harness.Image{Size: size, Zero: 0.2, Hole: 0.2, Text: 0.2, Seed: 1}.File(t)
	device := harness.Loop(t, size)
	harness.Scatter(t, device.Path, 0.5, 2)
	remote := "blockdev:" + server.User + "@" + server.Addr() + device.Path

	if helpers := deployed(t, server); len(helpers) > 0 {
		t.Fatalf("the host has %q before the first copy", helpers)
	}
	run(t, client, "copyto", image, remote)
	harness.Same(t, image, device.Path)
	if helpers := deployed(t, server); len(helpers) != 1 {
		t.Errorf("the host has the helpers %q, want one", helpers)
	}

	harness.Scatter(t, device.Path, 0.01, 3)
	back := filepath.Join(client.Dir, "back.img")
	run(t, client, "copyto", remote, back)
	harness.Same(t, device.Path, back)
}

// The process that keeps a snapshot is that rclone once more, which finds its role in the plugin.
func TestStock_Snapshot(t *testing.T) {
	require.Need(t, require.Cgo)
	client := with(t, harness.StockRclone(t).Bin)
	state := filepath.Join(client.Dir, "state")
	client.Env["BLOCKDEV_STATE_DIR"] = state
	image := harness.Image{Size: size, Seed: 1}.File(t)
	snapshot, copied := image+".snap", filepath.Join(client.Dir, "copy.img")
	run(t, client, "copyto", "blockdev:localhost"+image, copied, "--blockdev-snapshot=command",
		"--blockdev-snapshot-command=sh -c \"cp $BLOCKDEV_PATH $BLOCKDEV_PATH.snap; echo $BLOCKDEV_PATH.snap; truncate -s 0 $BLOCKDEV_PATH; truncate -s 8M $BLOCKDEV_PATH\"",
		"--blockdev-snapshot-remove-command=rm -f "+snapshot)
	harness.Same(t, harness.Image{Size: size, Seed: 1}.File(t), copied)
	if _, err := os.Stat(snapshot); err == nil {
		t.Error("the snapshot is left")
	}
	if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestBoth sets the variable for the program that has the backend anyway. Whether it takes the plugin is decided by
// how the two were built; the backend is there once in any case.
func TestBoth(t *testing.T) {
	require.Need(t, require.Cgo)
	client := with(t, harness.Bin(t, "rclone-blockdev"))
	if n := backends(t, client); n != 1 {
		t.Errorf("it lists %d backends named blockdev", n)
	}
	image := harness.Image{Size: size, Seed: 1}.File(t)
	copied := filepath.Join(client.Dir, "copy.img")
	run(t, client, "copyto", image, "blockdev:localhost"+copied)
	harness.Same(t, image, copied)
}

// TestProgram runs what "go build ./cmd/..." makes of the plugin.
func TestProgram(t *testing.T) {
	result := harness.ClientOf(t, harness.Bin(t, "librcloneplugin_backend_blockdev")).Run(t)
	if result.Code != 2 || !strings.Contains(result.Stderr, "-buildmode=plugin") {
		t.Errorf("exit code %d, want 2, and how to build the plugin: %s", result.Code, result.Stderr)
	}
}

// login gives the user the key of the server's account, where ssh looks for it.
func login(t *testing.T, client *harness.Client, server *harness.Server) {
	t.Helper()
	dir := filepath.Join(client.Home, ".ssh")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"id_ed25519": server.KeyFile, "known_hosts": server.KnownHosts} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// deployed lists the helpers that the server's account has.
func deployed(t *testing.T, server *harness.Server) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(server.Home, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && strings.Contains(path, "helper") {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
