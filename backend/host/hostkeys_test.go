package host

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

func TestHostKeys_Unknown(t *testing.T) {
	s := harness.Sshd(t)
	cfg := serverConfig(s)
	cfg.KnownHostsFile = filepath.Join(t.TempDir(), "known_hosts")
	line := strings.TrimSpace(read(t, s.KnownHosts))
	for _, content := range []string{"absent", "# nothing\n"} {
		if content != "absent" {
			write(t, cfg.KnownHostsFile, content)
		}
		err := dialFails(t, cfg)
		wantError(t, err, KindHostKey, false, line, cfg.KnownHostsFile, ssh.FingerprintSHA256(s.HostKey.Public))
	}
	// The line of the message is all that is missing.
	write(t, cfg.KnownHostsFile, line+"\n")
	start(t, dial(t, cfg))
}

func TestHostKeys_Changed(t *testing.T) {
	s := harness.Sshd(t)
	cfg := serverConfig(s)
	other := harness.NewKey(t, t.TempDir(), "other", "")
	content := "# comment\n" + knownhosts.Line([]string{s.Addr()}, other.Public) + "\n"
	cfg.KnownHostsFile = write(t, filepath.Join(t.TempDir(), "known_hosts"), content)
	wantError(t, dialFails(t, cfg), KindHostKey, false, "CHANGED", cfg.KnownHostsFile+":2",
		ssh.FingerprintSHA256(s.HostKey.Public), ssh.FingerprintSHA256(other.Public))
}

func TestHostKeys_Revoked(t *testing.T) {
	s := harness.Sshd(t)
	cfg := serverConfig(s)
	line := read(t, s.KnownHosts)
	cfg.KnownHostsFile = write(t, filepath.Join(t.TempDir(), "known_hosts"), line+"@revoked "+line)
	wantError(t, dialFails(t, cfg), KindHostKey, false, "revoked", cfg.KnownHostsFile+":2")
}

func TestHostKeys_Refusals(t *testing.T) {
	s := harness.Sshd(t)
	cfg := serverConfig(s)
	cfg.KnownHostsFile = "none"
	wantError(t, dialFails(t, cfg), KindConfig, false, "always verified")
	cfg.KnownHostsFile = write(t, filepath.Join(t.TempDir(), "known_hosts"), "host ssh-ed25519 garbage\n")
	wantError(t, dialFails(t, cfg), KindHostKey, false, cfg.KnownHostsFile+":1")
}

// A server with several keys is reached when any of them is known.
func TestHostKeys_Order(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	user := harness.NewKey(t, t.TempDir(), "user", "")
	first := harness.NewKey(t, t.TempDir(), "host", "").Signer
	addr := hostKeyServer(t, first, second)
	for _, known := range []ssh.PublicKey{first.PublicKey(), second.PublicKey()} {
		t.Run(known.Type(), func(t *testing.T) {
			kh := write(t, filepath.Join(t.TempDir(), "kh"), knownhosts.Line([]string{addr.String()}, known)+"\n")
			cfg := Config{Host: "127.0.0.1", Port: fmt.Sprint(addr.Port), User: "u", KeyFile: user.File, KnownHostsFile: kh, SSHConfig: "none"}
			dial(t, cfg)
			// In the wrong order the server shows its other key: that is the danger.
			other := first.PublicKey().Type()
			if other == known.Type() {
				other = second.PublicKey().Type()
			}
			cfg.HostKeyAlgorithms = []string{other, known.Type()}
			wantError(t, dialFails(t, cfg), KindHostKey, false, "CHANGED")
		})
	}
}

func TestHostKeys_Lookup(t *testing.T) {
	key := harness.NewKey(t, t.TempDir(), "host", "").Public
	line := func(names ...string) string { return knownhosts.Line(names, key) + "\n" }
	tests := map[string]struct {
		entry, content string
		known          bool
	}{
		"plain":                   {"db:22", line("db"), true},
		"other":                   {"db:22", line("dc"), false},
		"port":                    {"db:2222", line("[db]:2222"), true},
		"port against plain line": {"db:2222", line("db"), true},
		"plain against port line": {"db:22", line("[db]:2222"), false},
		"other port":              {"db:2222", line("[db]:2223"), false},
		"hashed":                  {"db:22", line(knownhosts.HashHostname("db")), true},
		"hashed port":             {"db:2222", line(knownhosts.HashHostname("[db]:2222")), true},
		"IPv6":                    {"[::1]:22", line("::1"), true},
		"wildcard":                {"a.example.com:22", line("*.example.com"), true},
		"negated":                 {"a.example.com:22", "!a.example.com," + line("*.example.com"), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			file := write(t, filepath.Join(t.TempDir(), "kh"), tt.content)
			k, err := loadHostKeys(&target{name: "db", hostKeyName: tt.entry, knownHosts: []string{"/no/such/file", file}})
			if err != nil {
				t.Fatal(err)
			}
			if err := k.verify("", &net.TCPAddr{IP: net.IPv4zero}, key); (err == nil) != tt.known {
				t.Errorf("got %v", err)
			}
			if tt.known && k.algorithms()[0] != key.Type() {
				t.Errorf("not preferred: %v", k.algorithms())
			}
		})
	}
}

// hostKeyServer is an SSH server in this process that has these host keys, lets
// everybody in and runs nothing.
func hostKeyServer(t *testing.T, keys ...ssh.Signer) *net.TCPAddr {
	t.Helper()
	return serveSSH(t, &ssh.ServerConfig{NoClientAuth: true}, keys...)
}

// serveSSH runs an SSH server in this process that only lets clients in.
func serveSSH(t *testing.T, config *ssh.ServerConfig, keys ...ssh.Signer) *net.TCPAddr {
	t.Helper()
	for _, key := range keys {
		config.AddHostKey(key)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			// A client that refuses the key is what some tests want.
			_, _, _, _ = ssh.NewServerConn(conn, config)
		}
	}()
	return listener.Addr().(*net.TCPAddr)
}

// Where an authority is listed, the host's certificate is asked for and checked.
func TestHostKeys_Authority(t *testing.T) {
	dir := t.TempDir()
	authority := harness.NewKey(t, dir, "ca", "")
	hostKey := harness.NewKey(t, dir, "hostkey", "")
	certificate := &ssh.Certificate{Key: hostKey.Public, CertType: ssh.HostCert, ValidPrincipals: []string{"127.0.0.1"},
		ValidBefore: ssh.CertTimeInfinity, KeyId: "host"}
	if err := certificate.SignCert(rand.Reader, authority.Signer); err != nil {
		t.Fatal(err)
	}
	certified, err := ssh.NewCertSigner(certificate, hostKey.Signer)
	if err != nil {
		t.Fatal(err)
	}
	addr := hostKeyServer(t, certified, hostKey.Signer)
	kh := filepath.Join(dir, "kh")
	cfg := Config{Host: "127.0.0.1", Port: fmt.Sprint(addr.Port), User: "u", KeyFile: authority.File, KnownHostsFile: kh, SSHConfig: "none"}
	write(t, kh, fmt.Sprintf("@cert-authority [127.0.0.1]:%d %s\n", addr.Port, authority.Line))
	dial(t, cfg)
	other := harness.NewKey(t, dir, "other", "")
	write(t, kh, fmt.Sprintf("@cert-authority [127.0.0.1]:%d %s\n", addr.Port, other.Line))
	wantError(t, dialFails(t, cfg), KindHostKey, false, "certificate")
	// Without an authority the certificate, which nobody vouches for, is not asked for.
	write(t, kh, knownhosts.Line([]string{addr.String()}, hostKey.Public)+"\n")
	dial(t, cfg)
}
