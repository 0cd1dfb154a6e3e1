//go:build linux

package restart

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/vm"
)

const mib = 1 << 20

// patience is how long a machine may take to boot, or to do something small, where much else runs beside it.
const patience = 8 * time.Minute

// machine is a host with OpenSSH that can lose its power, a relay before it, and an rclone that knows it.
type machine struct {
	*vm.Machine
	t      *testing.T // of the case that runs
	relay  *harness.Relay
	client *harness.Client
	login  *ssh.ClientConfig
	random *rand.Rand
}

// sshdConfig is that of the machine. Nobody waits for a client that has vanished longer than necessary.
const sshdConfig = `Port 22
HostKey /etc/ssh/host
AuthorizedKeysFile /etc/ssh/authorized_keys
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin yes
PidFile none
UseDNS no
`

// start is the command of the machine. Nothing is written to the disks before somebody asks for it, so that it is still in
// memory when the power is cut.
const start = `set -e
busybox --install -s /bin 2>/dev/null || true
mkdir -p -m 755 /run/sshd /mnt
chmod 600 /etc/ssh/host
sysctl -q -w vm.dirty_writeback_centisecs=0 vm.dirty_background_ratio=90 vm.dirty_ratio=95
ifconfig lo 127.0.0.1 up
ifconfig eth0 ` + vm.Address + ` netmask 255.255.255.0 up
[ -z "$MOUNT" ] || mount -t ext4 "$MOUNT" /mnt
exec /bin/sshd -D -e -f /etc/ssh/sshd_config
`

// boot starts a machine with these disks and waits for its SSH server. mount is a disk with ext4 that it mounts on /mnt.
func boot(t *testing.T, mount string, disks ...*vm.Disk) *machine {
	t.Helper()
	init := filepath.Join(t.TempDir(), "exec")
	if out, err := exec.Command("go", "build", "-o", init, "../exec").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	sh, err := require.Program("sh")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	client, host := harness.NewKey(t, dir, "client", ""), harness.NewKey(t, dir, "host", "")
	c := vm.Command{
		Path: sh, Args: []string{"-c", start}, Env: []string{"MOUNT=" + mount, "HOME=/root"},
		Modules:  append([]string{"crc32c_generic"}, vm.NetworkModules...),
		Programs: []string{"sh", "busybox", "sshd"},
		Files: map[string][]byte{
			"etc/passwd":              []byte("root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\n"),
			"etc/shadow":              []byte("root:*:19000::::::\n"),
			"etc/group":               []byte("root:x:0:\nnogroup:x:65534:\n"),
			"etc/ssh/sshd_config":     []byte(sshdConfig),
			"etc/ssh/host":            read(t, host.File),
			"etc/ssh/authorized_keys": []byte(client.Line + "\n"),
		},
	}
	parts, err := filepath.Glob("/usr/lib/openssh/sshd-*") // newer servers are several programs
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		c.Files[part] = read(t, part)
	}
	m := &machine{t: t, client: harness.NewClient(t), random: rand.New(rand.NewPCG(1, 0)), login: &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(client.Signer)}, HostKeyCallback: ssh.FixedHostKey(host.Public),
	}}
	if m.Machine, err = vm.Start(init, c, 1, disks...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the machine says:\n%s", m.Log())
		}
		m.Stop()
	})
	m.relay = harness.NewRelay(t, m.Addr)
	known := filepath.Join(dir, "known_hosts")
	line := knownhosts.Line([]string{knownhosts.Normalize(m.relay.Addr())}, host.Public)
	if err := os.WriteFile(known, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"RCLONE_RETRIES": "1", "RCLONE_LOW_LEVEL_RETRIES": "1", "RCLONE_CONTIMEOUT": "30s", "RCLONE_BLOCKDEV_KEEPALIVE": "5s",
		"RCLONE_BLOCKDEV_RETRY_TIME": "10m", "RCLONE_BLOCKDEV_KEY_FILE": client.File, "RCLONE_BLOCKDEV_KNOWN_HOSTS_FILE": known,
		"RCLONE_BLOCKDEV_SSH_CONFIG": "none",
	} {
		m.client.Env[name] = value
	}
	m.run("true")
	return m
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// there names a path on the machine.
func (m *machine) there(path string) string { return "blockdev:root@" + m.relay.Addr() + path }

// run runs a command of the machine as soon as it is up, and returns what it printed. It does not pass the relay.
func (m *machine) run(command string) string {
	m.t.Helper()
	var err error
	limit := 5 * time.Second
	for end := time.Now().Add(patience); time.Now().Before(end) && m.Running(); time.Sleep(200 * time.Millisecond) {
		var client *ssh.Client
		if client, err = m.dial(limit); err != nil {
			limit = min(2*limit, time.Minute)
			continue
		}
		defer client.Close()
		session, err := client.NewSession()
		if err != nil {
			m.t.Fatal(err)
		}
		out, err := session.CombinedOutput(command)
		if err != nil {
			m.t.Fatalf("%s: %v: %s", command, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	m.t.Fatalf("the machine cannot be reached: %v", err)
	return ""
}

// dial logs in. The emulator takes the connection of a machine that is not up yet, so the time is limited here.
func (m *machine) dial(limit time.Duration) (*ssh.Client, error) {
	conn, err := net.DialTimeout("tcp", m.Addr, limit)
	if err != nil {
		return nil, err
	}
	stop := time.AfterFunc(limit, func() { conn.Close() })
	defer stop.Stop()
	c, channels, requests, err := ssh.NewClientConn(conn, m.Addr, m.login)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// bootID is what the kernel of the machine says.
func (m *machine) bootID() string { return m.run("cat /proc/sys/kernel/random/boot_id") }

// command is an rclone that runs while the machine is restarted.
type command struct {
	m      *machine
	stderr harness.LogBuffer
	cmd    *exec.Cmd
	ended  chan struct{}
}

// begin starts rclone.
func (m *machine) begin(in *os.File, args ...string) *command {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Minute)
	c := &command{m: m, cmd: m.client.Command(ctx, append(args, "-v")...), ended: make(chan struct{})}
	c.cmd.Stderr = &c.stderr
	if in != nil {
		c.cmd.Stdin = in
	}
	if err := c.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		defer cancel()
		defer close(c.ended)
		_ = c.cmd.Wait() // the state of the process tells
	}()
	m.t.Cleanup(func() {
		cancel()
		<-c.ended
	})
	return c
}

// until waits for something that must come before the end of the command.
func (c *command) until(what string, is func() bool) {
	c.m.t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		select {
		case <-c.ended:
			c.m.t.Fatalf("rclone ended before %s: %s", what, c.stderr.String())
		default:
		}
		if time.Now().After(end) {
			c.m.t.Fatalf("%s did not come: %s", what, c.stderr.String())
		}
	}
}

// kill ends rclone without a word.
func (c *command) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.ended
}

// succeed waits for the end, which must be a success.
func (c *command) succeed() {
	c.m.t.Helper()
	<-c.ended
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		c.m.t.Fatalf("rclone ended with %d: %s", code, c.stderr.String())
	}
}

// restart takes the machine away while c runs, as a host vanishes: nobody tells c. What the machine says from then on
// does not reach it, so that it cannot be told that something is durable which was lost.
func (c *command) restart(how func() error) {
	c.m.t.Helper()
	lost := func() int { return strings.Count(c.stderr.String(), "lost, resuming") }
	before := lost()
	c.m.relay.Stall(true)
	if err := how(); err != nil {
		c.m.t.Fatal(err)
	}
	c.until("the loss was seen", func() bool { return lost() > before })
	c.m.relay.Cut()
	c.m.relay.Stall(false)
}
