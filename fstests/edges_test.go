package fstests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// edgeTrees writes every edge size with every content into source, and into target what a transfer may find there,
// under the same names. The pairs lie in one folder for each kind of target, so that one run of rclone meets all.
func edgeTrees(t *testing.T, source, target string) {
	t.Helper()
	pairs := 0
	put := func(root, kind, name string, data []byte) {
		path := filepath.Join(root, kind, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, size := range edges.Sizes() {
		for j, content := range edges.Contents() {
			data := content.Make(size, uint64(i))
			for k, found := range edges.Targets(data) {
				// Each size meets all contents and all targets, and each pair of those two meets some size.
				if size > edges.Block && (i+j+k)%3 != 0 {
					continue
				}
				name := fmt.Sprintf("%s-%d.img", content.Name, size)
				pairs++
				put(source, found.Name, name, data)
				if found.Data != nil {
					put(target, found.Name, name, found.Data)
				}
			}
		}
	}
	if least := len(edges.Sizes()) * len(edges.Contents()) * 3; pairs < least {
		t.Fatalf("only %d pairs of source and target, expected at least %d", pairs, least)
	}
}

// TestEdges copies images of every edge size over every kind of target, between every pair of ends, and compares
// the trees with the diff program.
func TestEdges(t *testing.T) {
	local := func(path string) string { return path }
	here := func(path string) string { return "blockdev:localhost" + path }
	for _, c := range []struct {
		name     string
		from, to func(path string) string
		remote   bool // the ends that are nil are on a host behind sshd
	}{
		{"LocalToHere", local, here, false},
		{"HereToHere", here, here, false},
		{"HereToLocal", here, local, false},
		{"LocalToHost", local, nil, true},
		{"HostToHere", nil, here, true},
		{"HostToHost", nil, nil, true},
		{"HostToLocal", nil, local, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := harness.NewClient(t)
			if c.remote {
				there := hostOf(t, client)
				if c.from == nil {
					c.from = there
				}
				if c.to == nil {
					c.to = there
				}
			}
			source, target := filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "target")
			edgeTrees(t, source, target)
			r := client.Run(t, "copy", "--ignore-times", "--retries", "1", c.from(source), c.to(target))
			if r.Code != 0 {
				t.Fatalf("rclone ended with %d: %s", r.Code, r.Stderr)
			}
			if out, err := exec.Command("diff", "--recursive", "--brief", source, target).CombinedOutput(); err != nil {
				t.Errorf("diff: %v\n%s", err, out)
			}
		})
	}
}

// hostOf starts an sshd that the client may log in to and returns what names a path there.
func hostOf(t *testing.T, client *harness.Client) func(path string) string {
	t.Helper()
	server := harness.Sshd(t)
	client.Env["RCLONE_BLOCKDEV_KEY_FILE"] = server.KeyFile
	client.Env["RCLONE_BLOCKDEV_KNOWN_HOSTS_FILE"] = server.KnownHosts
	return func(path string) string {
		return fmt.Sprintf("blockdev:%s@%s%s", server.User, server.Addr(), path)
	}
}
