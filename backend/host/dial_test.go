package host

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"golang.org/x/crypto/ssh"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

func listen(t *testing.T) (net.Listener, Config) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	return listener, Config{Host: "127.0.0.1", Port: port, User: "u", SSHConfig: "none"}
}

func TestDial_Unreachable(t *testing.T) {
	noAgent(t)
	listener, refused := listen(t)
	_ = listener.Close()
	wantError(t, dialFails(t, refused), KindConnect, true, "127.0.0.1", "refuses connections", "sshd")
	wantError(t, dialFails(t, Config{Host: "no-such-host.invalid", SSHConfig: "none"}), KindResolve, false, `"no-such-host.invalid"`, "no address")
	wantError(t, dialFails(t, Config{}), KindConfig, false, "no host is named")
}

func TestDial_NoAnswer(t *testing.T) {
	harness.Goroutines(t)
	noAgent(t)
	_, cfg := listen(t) // accepts in the kernel and never speaks
	ctx, ci := fs.AddConfig(t.Context())
	ci.ConnectTimeout = fs.Duration(200 * time.Millisecond)
	_, err := Dial(ctx, cfg)
	wantError(t, err, KindTimeout, true, "127.0.0.1", "too long", "--contimeout")
}

func TestDial_NotSSH(t *testing.T) {
	noAgent(t)
	for name, tt := range map[string]struct {
		speech    string
		kind      Kind
		retryable bool
	}{
		"closed": {"", KindLost, true},
		"half":   {"SSH-2.0-x\r\n", KindLost, true},
		"other":  {"HTTP/1.1 400 Bad Request\r\n\r\n" + strings.Repeat("x\r\n", 100) + strings.Repeat("y", 1000), KindConnect, false},
	} {
		t.Run(name, func(t *testing.T) {
			listener, cfg := listen(t)
			go func() {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte(tt.speech))
				if tt.retryable {
					_ = conn.(*net.TCPConn).CloseWrite()
				}
				_, _ = conn.Read(make([]byte, 1000))
			}()
			wantError(t, dialFails(t, cfg), tt.kind, tt.retryable, "127.0.0.1")
		})
	}
}

func TestDial_Ciphers(t *testing.T) {
	s := harness.Sshd(t)
	cfg := serverConfig(s)
	negotiated := func() string {
		return dial(t, cfg).remote.(*native).client.Conn.(ssh.AlgorithmsConnMetadata).Algorithms().Write.Cipher
	}
	if got := negotiated(); got != "aes128-gcm@openssh.com" {
		t.Errorf("default cipher %s", got)
	}
	cfg.Ciphers = []string{"chacha20-poly1305@openssh.com"}
	if got := negotiated(); got != cfg.Ciphers[0] {
		t.Errorf("cipher %s", got)
	}
	cfg.MACs, cfg.KeyExchange = []string{"hmac-sha2-512"}, []string{"curve25519-sha256"}
	start(t, dial(t, cfg))
	cfg.Ciphers = []string{"aes128-cbc"}
	wantError(t, dialFails(t, cfg), KindConfig, false, "set ciphers")
}

func TestDial_TooManySessions(t *testing.T) {
	s := harness.Sshd(t, harness.SshdConfig("MaxSessions 1"))
	d := dial(t, serverConfig(s))
	stream, err := d.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Start(t.Context())
	wantError(t, err, KindConnect, true, "MaxSessions")
	_ = stream.Close()
}

func TestDialLimit(t *testing.T) {
	ctx, ci := fs.AddConfig(t.Context())
	for _, tt := range []struct{ flag, file, want time.Duration }{
		{60, 0, 60}, {60, 7, 7}, {5, 7, 5}, {0, 7, 7}, {0, 0, 0},
	} {
		ci.ConnectTimeout = fs.Duration(tt.flag)
		if got := dialLimit(ctx, &target{dialTimeout: tt.file}); got != tt.want {
			t.Errorf("%+v: got %d", tt, got)
		}
	}
}

// A dead host is noticed without traffic of our own; a slow one is left alone.
func TestHeartbeat(t *testing.T) {
	t.Run("direct", func(t *testing.T) { heartbeats(t, false) })
	t.Run("jump host", func(t *testing.T) { heartbeats(t, true) })
}

func heartbeats(t *testing.T, jump bool) {
	harness.Goroutines(t)
	s := harness.Sshd(t)
	relay := harness.NewRelay(t, s.Addr())
	s.KnowPort(t, relay.Port())
	cfg := serverConfig(s)
	var via []string
	if jump {
		via = []string{"ssh://" + s.User + "@" + relay.Addr()}
		cfg.SSHConfig = write(t, filepath.Join(t.TempDir(), "config"), "IdentityFile "+s.KeyFile+"\nIdentitiesOnly yes\n")
	} else {
		cfg.Port = strconv.Itoa(relay.Port())
	}
	k, err := connect(t.Context(), cfg, via, 0)
	if err != nil {
		t.Fatal(err)
	}
	const interval = 50 * time.Millisecond
	n := newNative(cfg.Host, k, &heartbeat{interval: interval, wire: k.wire})
	defer n.close()
	relay.Reset()
	// Answers come late, so that every other interval has no sign of life.
	relay.Delay(interval * 3 / 2)
	select {
	case <-n.done():
		t.Fatal("a live connection was closed")
	case <-time.After(20 * interval):
	}
	if relay.Up() == 0 || relay.Down() == 0 {
		t.Error("no keepalive crossed the line")
	}
	relay.Stall(true)
	defer relay.Stall(false)
	select {
	case <-n.done():
	case <-time.After(100 * interval):
		t.Error("a dead connection was kept")
	}
}

// Why no connection came about, each in words of its own.
func TestDialError(t *testing.T) {
	for _, tt := range []struct {
		err       error
		kind      Kind
		retryable bool
		words     []string
	}{
		{&net.DNSError{Err: "no such host", Name: "vm", IsNotFound: true}, KindResolve, false, []string{`"vm" has no address`, "/etc/hosts"}},
		{&net.DNSError{Err: "server misbehaving", Name: "vm", IsTemporary: true}, KindResolve, true, []string{`"vm"`, "misbehaving"}},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, KindConnect, true, []string{"refuses connections", "sshd", "port"}},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, KindTimeout, true, []string{"no answer from vm:22 in time", "--contimeout"}},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, KindConnect, true, []string{"cannot reach vm:22"}},
	} {
		wantError(t, dialError("vm", "vm:22", tt.err), tt.kind, tt.retryable, tt.words...)
	}
}
