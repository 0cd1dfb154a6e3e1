package fstests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

var doasLine = regexp.MustCompile(`doas\.conf: "([^"]+)"`)

// doasUser is a login as nobody on a host that has doas and no sudo. Its /etc is a copy that only its own programs
// see, with the returned file as doas.conf.
func doasUser(t *testing.T) (login, conf string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "doas") // t.TempDir lets nobody else in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	etc, home, bin := filepath.Join(dir, "etc"), filepath.Join(dir, "home"), filepath.Join(dir, "bin")
	login, conf = filepath.Join(dir, "login"), filepath.Join(etc, "doas.conf")
	if out, err := exec.Command("cp", "-a", "/etc", etc).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	setpriv, err := require.Program("setpriv")
	if err != nil {
		t.Fatal(err)
	}
	const id = 65534
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.Mkdir(home, 0o700), os.Chown(home, id, id), os.Mkdir(bin, 0o755),
		os.WriteFile(conf, []byte("permit nobody as root\n"), 0o600),
		os.WriteFile(login, fmt.Appendf(nil, "#!/bin/sh\nmount --bind %s /etc\nHOME=%s PATH=%s exec %s --reuid=%d --regid=%[5]d --clear-groups \"$@\"\n",
			etc, home, bin, setpriv, id), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range []string{"sh", "uname", "id", "chmod", "sha256sum", "cat", "mkdir", "wc", "rm", "mv", "find", "doas"} {
		path, err := require.Program(tool)
		if err == nil {
			err = os.Symlink(path, filepath.Join(bin, tool))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return login, conf
}

// Where a host has no sudo, the real doas gives the helper the rights, once the line of the message is in its file.
func TestDoas(t *testing.T) {
	require.Need(t, require.Root, require.Mount, require.Sshd, require.Doas)
	login, conf := doasUser(t)
	server := harness.Sshd(t, harness.SshdConfig("ForceCommand unshare -m "+login+` sh -c "$SSH_ORIGINAL_COMMAND"`))
	c := harness.NewClient(t)
	secret := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(secret, []byte("only for root"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(more ...string) harness.Result {
		args := append([]string{"cat", "blockdev:" + server.Host + secret, "--retries", "1", "--low-level-retries", "1", "--blockdev-port", strconv.Itoa(server.Port),
			"--blockdev-key-file", server.KeyFile, "--blockdev-known-hosts-file", server.KnownHosts}, more...)
		return c.Run(t, args...)
	}
	if r := read(); r.Code == 0 || r.Stdout != "" {
		t.Fatalf("nobody may read it: %q", r.Stdout)
	}
	r := read("--blockdev-sudo")
	line := doasLine.FindStringSubmatch(r.Stderr)
	if r.Code == 0 || line == nil || !strings.Contains(r.Stderr, "doas") {
		t.Fatalf("code %d: %s", r.Code, r.Stderr)
	}
	if err := os.WriteFile(conf, []byte(strings.Replace(line[1], "USER", "nobody", 1)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := read("--blockdev-sudo"); r.Code != 0 || r.Stdout != "only for root" {
		t.Errorf("code %d: %q %s", r.Code, r.Stdout, r.Stderr)
	}
}
