package host

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

func TestNamed(t *testing.T) {
	dir := noAgent(t)
	config := write(t, filepath.Join(dir, "config"), "Host nas *.lan\n User root\nHost box\n")
	known := write(t, filepath.Join(dir, ".ssh", "known_hosts"), `# comment
box,192.0.2.7 ssh-ed25519 AAAA
|1|hash=|hash= ssh-ed25519 AAAA
[odd]:2222 ssh-ed25519 AAAA
*.example.com,!x ssh-ed25519 AAAA
@cert-authority ca.example.com ssh-ed25519 AAAA
2001:db8::7 ssh-ed25519 AAAA
short
`)
	want := []string{"192.0.2.7", "2001:db8::7", "box", "nas"}
	if got := Named(Config{SSHConfig: config}); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := os.Remove(known); err != nil {
		t.Fatal(err)
	}
	if got := Named(Config{SSHConfig: "none", KnownHostsFile: known}); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

// Paths of a host need no helper there, and leave none.
func TestHost_Paths(t *testing.T) {
	dir := noAgent(t)
	s := harness.Sshd(t)
	for _, name := range []string{"disk one", "disk' two", "other", ".hidden"} {
		write(t, filepath.Join(dir, name), "")
	}
	mkdir(t, filepath.Join(dir, "disks"))
	want := []string{dir + "/disk one", dir + "/disk' two", dir + "/disks/"}
	for name, cfg := range map[string]Config{"built-in": serverConfig(s), "program": programConfig(t, s)} {
		got, err := newHost(cfg).Paths(t.Context(), dir+"/disk")
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for _, prefix := range []string{"/no/such/", dir + "/$(touch " + dir + "/x)", "/a\nb"} {
		if got, _ := newHost(serverConfig(s)).Paths(t.Context(), prefix); len(got) != 0 {
			t.Errorf("%q: got %q", prefix, got)
		}
	}
	if _, err := os.Stat(dir + "/x"); err == nil {
		t.Error("a prefix was run as a command")
	}
	if files := stored(t, filepath.Join(s.Home, ".cache")); len(files) != 0 {
		t.Errorf("stored %v", files)
	}
	if _, err := newHost(Config{Host: "h", SSH: []string{"/usr/bin/plink"}}).Paths(t.Context(), "/"); err == nil || !strings.Contains(err.Error(), "plink") {
		t.Errorf("a program that may ask: %v", err)
	}
}

// A host that does not answer keeps nobody waiting.
func TestHost_Paths_late(t *testing.T) {
	noAgent(t)
	listener, cfg := listen(t)
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if got, err := newHost(cfg).Paths(ctx, "/"); err == nil || time.Since(begin) > 2*time.Second {
		t.Errorf("got %q, %v after %v", got, err, time.Since(begin))
	}
}
