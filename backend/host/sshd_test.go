package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// serverConfig reaches s with its key and known_hosts, without any file of the
// user.
func serverConfig(s *harness.Server) Config {
	return Config{Host: s.Host, Port: strconv.Itoa(s.Port), User: s.User, KeyFile: s.KeyFile,
		KnownHostsFile: s.KnownHosts, SSHConfig: "none"}
}

// dial connects to s and prepares the fake helper.
func dial(t *testing.T, cfg Config) *deployer {
	t.Helper()
	c, err := Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	d := c.(*deployer)
	withHelper(d, fakeHelper)
	return d
}

// dialError connects, which must fail.
func dialFails(t *testing.T, cfg Config) error {
	t.Helper()
	c, err := Dial(t.Context(), cfg)
	if err == nil {
		_ = c.Close()
		t.Fatal("connected")
	}
	return err
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDial_Deploys(t *testing.T) {
	harness.Goroutines(t)
	s := harness.Sshd(t)
	d := dial(t, serverConfig(s))
	start(t, d)
	start(t, d)
	if files := stored(t, filepath.Join(s.Home, ".cache")); len(files) != 1 {
		t.Errorf("stored %v", files)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	<-d.Done()
	_, err := d.Start(t.Context())
	wantError(t, err, KindLost, true, "127.0.0.1")
}

// The real helper greets after the deployment, and ends with its input.
func TestDial_RealHelper(t *testing.T) {
	s := harness.Sshd(t)
	binary := read(t, harness.Bin(t, "blockdev-helper"))
	relay := harness.NewRelay(t, s.Addr())
	s.KnowPort(t, relay.Port())
	cfg := serverConfig(s)
	cfg.Port = strconv.Itoa(relay.Port())
	for i, limit := range []int64{2 * int64(len(binary)), 64 << 10} {
		d := dial(t, cfg)
		withHelper(d, binary)
		relay.Reset()
		stream, err := d.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if relay.Total() > limit {
			t.Errorf("start %d moved %d bytes", i, relay.Total())
		}
		greeting := make([]byte, 16)
		if _, err := stream.Read(greeting); err != nil || !strings.HasPrefix(string(greeting), "\x00\xffblkdev") {
			t.Errorf("%q, %v", greeting, err)
		}
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
		if !stream.proc.wait(diagnosisWait) {
			t.Error("the helper did not end")
		}
	}
}

// A forced command is the helper whatever is asked for.
func TestDial_ForcedCommand(t *testing.T) {
	s := harness.Sshd(t)
	helper := filepath.Join(t.TempDir(), "helper")
	if err := os.WriteFile(helper, []byte(fakeHelper), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, s.AuthorizedKeys, fmt.Sprintf("command=\"%s serve\",restrict %s\n", helper, s.Key.Line))
	start(t, dial(t, serverConfig(s)))
	if files := stored(t, filepath.Join(s.Home, ".cache")); len(files) != 0 {
		t.Errorf("stored %v", files)
	}
}

func TestDial_LoginShellTalks(t *testing.T) {
	s := harness.Sshd(t)
	write(t, s.AuthorizedKeys, "command=\"echo Welcome; echo to the host; eval \\\"$SSH_ORIGINAL_COMMAND\\\"\" "+s.Key.Line+"\n")
	start(t, dial(t, serverConfig(s)))
	write(t, s.AuthorizedKeys, "command=\"echo This account is not available; exit 3\" "+s.Key.Line+"\n")
	_, err := dial(t, serverConfig(s)).Start(t.Context())
	wantError(t, err, KindDeploy, false, "127.0.0.1", "This account is not available", "status 3")
}

func TestStream_Diagnosis(t *testing.T) {
	s := harness.Sshd(t)
	write(t, s.AuthorizedKeys, `command="printf '\000\377blkdev'; echo disk on fire >&2; exit 7" `+s.Key.Line+"\n")
	stream, err := dial(t, serverConfig(s)).Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.Diagnosis(); !strings.Contains(got, "disk on fire") || !strings.Contains(got, "status 7") {
		t.Errorf("got %q", got)
	}
}

func TestConn_Done(t *testing.T) {
	harness.Goroutines(t)
	s := harness.Sshd(t)
	relay := harness.NewRelay(t, s.Addr())
	s.KnowPort(t, relay.Port())
	cfg := serverConfig(s)
	cfg.Port = strconv.Itoa(relay.Port())
	d := dial(t, cfg)
	stream, err := d.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	relay.Cut()
	<-d.Done()
	buf := make([]byte, 64)
	for err == nil {
		_, err = stream.Read(buf)
	}
	_, err = d.Start(t.Context())
	wantError(t, err, KindLost, true, "connection")
}

func TestDial_Cancel(t *testing.T) {
	harness.Goroutines(t)
	s := harness.Sshd(t)
	relay := harness.NewRelay(t, s.Addr())
	s.KnowPort(t, relay.Port())
	cfg := serverConfig(s)
	cfg.Port = strconv.Itoa(relay.Port())
	relay.Stall(true)
	ctx, cancel := context.WithCancel(t.Context())
	relay.Stall(true)
	go cancel()
	if _, err := Dial(ctx, cfg); err != context.Canceled {
		t.Errorf("got %v", err)
	}
	relay.Stall(false)

	d := dial(t, cfg)
	relay.Stall(true)
	ctx, cancel = context.WithCancel(t.Context())
	go cancel()
	if _, err := d.Start(ctx); err != context.Canceled {
		t.Errorf("got %v", err)
	}
	relay.Stall(false)
	start(t, d)
}
