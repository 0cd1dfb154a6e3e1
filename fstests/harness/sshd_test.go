package harness

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

func remote(t *testing.T, s *Server, addr string, config *ssh.ClientConfig, command string) string {
	t.Helper()
	client, err := ssh.Dial("tcp", addr, config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.CombinedOutput(command)
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestSshd(t *testing.T) {
	t.Parallel()
	s := Sshd(t)
	if home := remote(t, s, s.Addr(), s.ClientConfig(), "echo $HOME"); home != s.Home {
		t.Errorf("HOME of the session is %s, want %s", home, s.Home)
	}
	if who := remote(t, s, s.Addr(), s.ClientConfig(), "id -un"); who != s.User {
		t.Errorf("session runs as %s, want %s", who, s.User)
	}

	verify, err := knownhosts.New(s.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	config := s.ClientConfig()
	config.HostKeyCallback = verify
	remote(t, s, s.Addr(), config, "true")

	relay := NewRelay(t, s.Addr())
	if _, err := ssh.Dial("tcp", relay.Addr(), config); err == nil {
		t.Fatal("known_hosts vouches for a port it does not name")
	}
	s.KnowPort(t, relay.Port())
	if config.HostKeyCallback, err = knownhosts.New(s.KnownHosts); err != nil {
		t.Fatal(err)
	}
	remote(t, s, relay.Addr(), config, "true")
}

func TestSshd_Options(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	s := Sshd(t, SshdHome(home), SshdConfig("AcceptEnv COLOUR", "MaxSessions 1"))
	if got := remote(t, s, s.Addr(), s.ClientConfig(), "echo $HOME"); got != home {
		t.Errorf("HOME of the session is %s, want %s", got, home)
	}
	client, err := ssh.Dial("tcp", s.Addr(), s.ClientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.NewSession(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.NewSession(); err == nil {
		t.Error("a second session was allowed in spite of MaxSessions 1")
	}
}

func TestServer_SSHArgs(t *testing.T) {
	t.Parallel()
	require.Need(t, require.SSH)
	s := Sshd(t)
	relay := NewRelay(t, s.Addr())
	out, err := exec.Command("ssh", append(s.SSHArgs(relay.Port()), s.Host, "echo hello")...).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "hello" {
		t.Fatalf("ssh: %v: %s", err, out)
	}
	if relay.Total() < 1000 {
		t.Errorf("relay counted %d bytes for an ssh login", relay.Total())
	}
}

// TestServer_Stop checks that no session survives its server.
func TestServer_Stop(t *testing.T) {
	t.Parallel()
	s := Sshd(t)
	client, err := ssh.Dial("tcp", s.Addr(), s.ClientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(s.Home, "pid")
	if err := session.Start("echo $$ >" + pidFile + "; exec sleep 600"); err != nil {
		t.Fatal(err)
	}
	var pid []byte
	for range 500 {
		if pid, _ = os.ReadFile(pidFile); len(pid) > 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Stop()
	if err := session.Wait(); err == nil {
		t.Error("session ended well")
	}
	for range 200 {
		stat, err := os.ReadFile(filepath.Join("/proc", string(bytes.TrimSpace(pid)), "cmdline"))
		if err != nil || len(stat) == 0 { // gone, or waiting to be reaped
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if cmdline, _ := os.ReadFile(filepath.Join("/proc", string(bytes.TrimSpace(pid)), "cmdline")); len(cmdline) > 0 {
		t.Errorf("process %s of the session still runs: %q", bytes.TrimSpace(pid), cmdline)
	}
	if c, err := net.Dial("tcp", s.Addr()); err == nil {
		c.Close()
		t.Error("the port still answers")
	}
}

func TestNewKey_passphrase(t *testing.T) {
	k := NewKey(t, t.TempDir(), "locked", "open sesame")
	pem, err := os.ReadFile(k.File)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ssh.ParsePrivateKey(pem); err == nil {
		t.Error("the key can be read without its passphrase")
	}
	if _, err := ssh.ParsePrivateKeyWithPassphrase(pem, []byte("open sesame")); err != nil {
		t.Error(err)
	}
}
