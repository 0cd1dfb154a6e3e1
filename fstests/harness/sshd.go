package harness

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// Server is a private OpenSSH server on a loopback port, running as the current user.
type Server struct {
	Host           string // always 127.0.0.1
	Port           int
	User           string
	Home           string // HOME of the sessions, throw-away
	Runtime        string // XDG_RUNTIME_DIR of the sessions, throw-away too
	KeyFile        string // private key that may log in
	KnownHosts     string // file with the one right line for this server
	AuthorizedKeys string // file read at each login, so a test may rewrite it
	Key            *Key
	HostKey        *Key

	config string // path of sshd_config
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has been waited for
	log    LogBuffer
	stop   sync.Once
}

// SshdOption changes a server before it starts.
type SshdOption func(*sshdOptions)

type sshdOptions struct {
	lines []string
	home  string
}

// SshdConfig adds lines to sshd_config. They come first and sshd keeps the first value of a keyword, so they
// override what the harness sets.
func SshdConfig(lines ...string) SshdOption {
	return func(o *sshdOptions) { o.lines = append(o.lines, lines...) }
}

// SshdHome sets HOME of the sessions instead of an empty folder.
func SshdHome(dir string) SshdOption { return func(o *sshdOptions) { o.home = dir } }

// Sshd starts a server and returns when a login has succeeded. It needs require.Sshd and ends with the test,
// together with the processes of its sessions. When the test fails, the server's log is added to it.
func Sshd(t testing.TB, options ...SshdOption) *Server {
	t.Helper()
	require.Need(t, require.Sshd)
	var o sshdOptions
	for _, option := range options {
		option(&o)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &Server{
		Host: "127.0.0.1", User: me.Username, Home: o.home,
		Key: NewKey(t, dir, "client", ""), HostKey: NewKey(t, dir, "host", ""),
		KnownHosts:     filepath.Join(dir, "known_hosts"),
		AuthorizedKeys: filepath.Join(dir, "authorized_keys"),
		Runtime:        filepath.Join(dir, "runtime"),
		config:         filepath.Join(dir, "sshd_config"),
	}
	if err := os.Mkdir(s.Runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	s.KeyFile = s.Key.File
	if s.Home == "" {
		s.Home = filepath.Join(dir, "home")
		if err := os.Mkdir(s.Home, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, s.AuthorizedKeys, []byte(s.Key.Line+"\n"))
	s.start(t, o.lines)
	return s
}

// start tries a few ports, since another process can take a port between its choice and its use.
func (s *Server) start(t testing.TB, lines []string) {
	t.Helper()
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("log of sshd on port %d:\n%s", s.Port, s.log.String())
		}
	})
	var err error
	for range 5 {
		s.Port = freePort(t)
		s.configure(t, lines)
		if err = s.launch(); err == nil {
			return
		}
	}
	t.Fatalf("sshd does not accept a login: %v", err)
}

func (s *Server) configure(t testing.TB, lines []string) {
	t.Helper()
	all := append([]string{}, lines...)
	all = append(all,
		"Port "+strconv.Itoa(s.Port),
		"ListenAddress "+s.Host,
		"HostKey "+s.HostKey.File,
		"AuthorizedKeysFile "+s.AuthorizedKeys,
		"PidFile none",
		"UsePAM "+usePAM(),
		"StrictModes no",
		"PasswordAuthentication no",
		"PermitRootLogin yes",
		"PrintMotd no",
		"LogLevel INFO",
		"SetEnv HOME="+s.Home+" XDG_RUNTIME_DIR="+s.Runtime,
		"Subsystem sftp internal-sftp",
	)
	writeFile(t, s.config, []byte(strings.Join(all, "\n")+"\n"))
	host := knownhosts.Normalize(s.Addr())
	writeFile(t, s.KnownHosts, []byte(knownhosts.Line([]string{host}, s.HostKey.Public)+"\n"))
}

// usePAM is "yes" only for a root whose password is locked: without PAM sshd refuses even the keys of such an account.
func usePAM() string {
	shadow, err := os.ReadFile("/etc/shadow")
	if err == nil && bytes.HasPrefix(shadow, []byte("root:!")) {
		return "yes"
	}
	return "no"
}

// launch starts the program and proves by a login that the process behind the port is this server.
func (s *Server) launch() error {
	path, err := require.SshdPath()
	if err != nil {
		return err
	}
	s.cmd = exec.Command(path, "-D", "-e", "-f", s.config)
	s.cmd.Stderr = &s.log
	s.cmd.WaitDelay = 2 * time.Second // a session that outlives the server holds the pipe of its log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait() // a killed server is not an error
		close(exited)
	}(s.cmd, s.exited)

	deadline := time.Now().Add(10 * time.Second)
	for {
		client, err := ssh.Dial("tcp", s.Addr(), s.ClientConfig())
		if err == nil {
			return client.Close()
		}
		select {
		case <-s.exited:
			return fmt.Errorf("it ended: %s", s.log.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.kill()
			return err
		}
	}
}

// Addr is host:port.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// ClientConfig is a configuration of x/crypto/ssh that may log in and accepts only this server.
func (s *Server) ClientConfig() *ssh.ClientConfig {
	return &ssh.ClientConfig{
		User:            s.User,
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(s.Key.Signer)},
		HostKeyCallback: ssh.FixedHostKey(s.HostKey.Public),
		Timeout:         10 * time.Second,
	}
}

// SSHArgs are the arguments that let the ssh program log in to port, which is the server's own or a relay's.
// The host and the command follow them.
func (s *Server) SSHArgs(port int) []string {
	return []string{
		"-F", "none", "-p", strconv.Itoa(port), "-i", s.KeyFile, "-l", s.User,
		"-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
		"-o", "UserKnownHostsFile=" + s.KnownHosts, "-o", "HostKeyAlias=" + knownhosts.Normalize(s.Addr()),
	}
}

// KnowPort adds the line that vouches for this server behind another port of its host, such as a relay's.
func (s *Server) KnowPort(t testing.TB, port int) {
	t.Helper()
	host := knownhosts.Normalize(net.JoinHostPort(s.Host, strconv.Itoa(port)))
	f, err := os.OpenFile(s.KnownHosts, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, knownhosts.Line([]string{host}, s.HostKey.Public)); err != nil {
		t.Fatal(err)
	}
}

// CPU is the processor time that the server and the processes of sessions that have ended used so far.
func (s *Server) CPU() time.Duration { return processorTime(s.cmd.Process.Pid) }

// Pid is the process from which those of all sessions come.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Sessions gives the arguments of the processes of all sessions by their ids, those of sshd among them.
func (s *Server) Sessions() map[int][]string {
	all := Processes()
	found := map[int][]string{}
	for _, pid := range descendants(s.cmd.Process.Pid) {
		if args, ok := all[pid]; ok {
			found[pid] = args
		}
	}
	return found
}

// Log is what the server wrote so far.
func (s *Server) Log() string { return s.log.String() }

// Stop ends the server and every process of its sessions, like a host that goes down. It may be called twice.
func (s *Server) Stop() {
	s.stop.Do(s.kill)
}

// kill lists the children before it ends the listener: they survive it and are no longer found through it.
func (s *Server) kill() {
	if s.exited == nil {
		return
	}
	children := descendants(s.cmd.Process.Pid)
	_ = s.cmd.Process.Kill() // it may have ended by itself
	for _, pid := range children {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill() // it may have ended since
		}
	}
	<-s.exited
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// LogBuffer is a bytes.Buffer for one writer and any number of readers.
type LogBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // hold mu
}

func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *LogBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
