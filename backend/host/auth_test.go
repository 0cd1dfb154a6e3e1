package host

import (
	"crypto/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs/config/obscure"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// noAgent makes the test independent of the user's agent and keys.
func noAgent(t *testing.T) (dir string) {
	t.Helper()
	t.Setenv("SSH_AUTH_SOCK", "")
	dir, _ = home(t)
	if err := os.Mkdir(filepath.Join(dir, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serveAgent runs an agent with these keys and returns its socket.
func serveAgent(t *testing.T, keys ...any) string {
	t.Helper()
	ring := agent.NewKeyring()
	for _, key := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(t.TempDir(), "agent")
	listener, err := net.Listen("unix", socket)
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
			go func() { _ = agent.ServeAgent(ring, conn) }()
		}
	}()
	return socket
}

func rawKey(t *testing.T, file string) any {
	t.Helper()
	key, err := ssh.ParseRawPrivateKey([]byte(read(t, file)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func hide(t *testing.T, secret string) string {
	t.Helper()
	hidden, err := obscure.Obscure(secret)
	if err != nil {
		t.Fatal(err)
	}
	return hidden
}

func TestLogin_Keys(t *testing.T) {
	dir := noAgent(t)
	s := harness.Sshd(t)
	locked := harness.NewKey(t, dir, "locked", "open sesame")
	write(t, s.AuthorizedKeys, s.Key.Line+"\n"+locked.Line+"\n")
	base := serverConfig(s)
	base.KeyFile = ""
	pem := strings.ReplaceAll(read(t, s.KeyFile), "\n", `\n`)
	tests := map[string]func(*Config){
		"key_file":          func(c *Config) { c.KeyFile = s.KeyFile },
		"key_file in home":  func(c *Config) { c.KeyFile = "~/.ssh/mine" },
		"key_pem":           func(c *Config) { c.KeyPem = pem },
		"passphrase":        func(c *Config) { c.KeyFile, c.KeyFilePass = locked.File, hide(t, "open sesame") },
		"default identity":  func(*Config) {},
		"key beats default": func(c *Config) { c.KeyFile = s.KeyFile },
	}
	for _, name := range []string{"mine", "id_ed25519"} {
		write(t, filepath.Join(dir, ".ssh", name), read(t, s.KeyFile))
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := base
			change(&cfg)
			conn := dial(t, cfg)
			start(t, conn)
			if !conn.Unattended() {
				t.Error("a key in a file asks somebody")
			}
		})
	}
}

func TestLogin_Refused(t *testing.T) {
	dir := noAgent(t)
	s := harness.Sshd(t)
	locked := harness.NewKey(t, dir, "locked", "open sesame")
	stranger := harness.NewKey(t, dir, "stranger", "")
	base := serverConfig(s)
	base.KeyFile = ""
	tests := map[string]struct {
		change func(*Config)
		kind   Kind
		words  []string
	}{
		"nothing to offer": {func(*Config) {}, KindAuth, []string{s.User + "@" + s.Addr(), "no key, agent or password"}},
		"wrong key": {func(c *Config) { c.KeyFile = stranger.File }, KindAuth,
			[]string{stranger.File, ssh.FingerprintSHA256(stranger.Public), "authorized_keys"}},
		"absent key":       {func(c *Config) { c.KeyFile = "/no/such/key" }, KindAuth, []string{"/no/such/key"}},
		"no passphrase":    {func(c *Config) { c.KeyFile = locked.File }, KindAuth, []string{locked.File, "key_file_pass"}},
		"wrong passphrase": {func(c *Config) { c.KeyFile, c.KeyFilePass = locked.File, hide(t, "x") }, KindAuth, []string{locked.File}},
		"password":         {func(c *Config) { c.Pass = hide(t, "secret") }, KindAuth, []string{"the password"}},
		"plain password":   {func(c *Config) { c.Pass = "not obscured!" }, KindConfig, []string{"rclone obscure"}},
		"no agent":         {func(c *Config) { c.KeyUseAgent = true }, KindAuth, []string{"key_use_agent", "SSH_AUTH_SOCK"}},
		"no certificate":   {func(c *Config) { c.KeyFile, c.PubKeyFile = s.KeyFile, s.KeyFile+".pub" }, KindAuth, []string{"not a certificate"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := base
			tt.change(&cfg)
			err := dialFails(t, cfg)
			wantError(t, err, tt.kind, false, tt.words...)
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "open sesame") {
				t.Errorf("secret in %v", err)
			}
		})
	}
}

func TestLogin_Certificate(t *testing.T) {
	dir := noAgent(t)
	authority := harness.NewKey(t, dir, "ca", "")
	s := harness.Sshd(t, harness.SshdConfig("TrustedUserCAKeys "+authority.File+".pub"))
	user := harness.NewKey(t, dir, "user", "")
	certificate := &ssh.Certificate{Key: user.Public, CertType: ssh.UserCert, ValidPrincipals: []string{s.User},
		ValidBefore: uint64(time.Now().Add(time.Hour).Unix()), KeyId: "test user"}
	if err := certificate.SignCert(rand.Reader, authority.Signer); err != nil {
		t.Fatal(err)
	}
	text := string(ssh.MarshalAuthorizedKey(certificate))
	cfg := serverConfig(s)
	cfg.KeyFile = user.File
	wantError(t, dialFails(t, cfg), KindAuth, false, user.File)

	cfg.PubKey = strings.TrimSpace(text)
	start(t, dial(t, cfg))
	cfg.PubKey, cfg.PubKeyFile = "", write(t, filepath.Join(dir, "elsewhere.pub"), text)
	start(t, dial(t, cfg))
	cfg.PubKeyFile = ""
	write(t, user.File+"-cert.pub", text)
	start(t, dial(t, cfg))
}

func TestLogin_Agent(t *testing.T) {
	dir := noAgent(t)
	s := harness.Sshd(t, harness.SshdConfig("MaxAuthTries 2"))
	var keys []any
	for i := range 4 {
		keys = append(keys, rawKey(t, harness.NewKey(t, dir, "noise"+strconv.Itoa(i), "").File))
	}
	keys = append(keys, rawKey(t, s.KeyFile))
	cfg := serverConfig(s)
	cfg.KeyFile = ""

	t.Setenv("SSH_AUTH_SOCK", serveAgent(t, keys[4]))
	start(t, dial(t, cfg))

	// With many keys the server gives up before the right one, unless it is named.
	t.Setenv("SSH_AUTH_SOCK", serveAgent(t, keys...))
	wantError(t, dialFails(t, cfg), KindAuth, false, "ssh-agent")
	cfg.KeyFile, cfg.KeyUseAgent = s.KeyFile, true
	start(t, dial(t, cfg))
	if dial(t, cfg).Unattended() {
		t.Error("an agent is asked again")
	}
	cfg.KeyFile = write(t, filepath.Join(dir, "public half"), s.Key.Line+"\n")
	start(t, dial(t, cfg))
	cfg.KeyFile = harness.NewKey(t, dir, "not in agent", "").File
	wantError(t, dialFails(t, cfg), KindAuth, false, "ssh-add", cfg.KeyFile)

	// IdentityFile of the ssh config goes first even when it is the last in the agent.
	cfg = serverConfig(s)
	cfg.KeyFile = ""
	cfg.SSHConfig = write(t, filepath.Join(dir, "config"), "Host *\n IdentityFile "+s.KeyFile+"\n")
	start(t, dial(t, cfg))
	t.Setenv("SSH_AUTH_SOCK", "")
	write(t, cfg.SSHConfig, "Host *\n IdentityAgent "+serveAgent(t, keys[4])+"\n")
	start(t, dial(t, cfg))
}

func TestLogin_RealAgent(t *testing.T) {
	program, err := exec.LookPath("ssh-agent")
	if err != nil {
		t.Log("ssh-agent is not installed, TestLogin_Agent covers the protocol")
		return
	}
	noAgent(t)
	s := harness.Sshd(t)
	socket := filepath.Join(t.TempDir(), "socket")
	cmd := exec.Command(program, "-D", "-a", socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Setenv("SSH_AUTH_SOCK", socket)
	var out []byte
	for range 100 {
		if out, err = exec.Command("ssh-add", s.KeyFile).CombinedOutput(); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Fatalf("ssh-add: %v: %s", err, out)
	}
	cfg := serverConfig(s)
	cfg.KeyFile = ""
	start(t, dial(t, cfg))
}

// passwordServer is an SSH server in this process that wants a password, by
// both methods, since OpenSSH needs a system account for it.
func passwordServer(t *testing.T, password string, interactive bool) (Config, *int) {
	t.Helper()
	hostKey := harness.NewKey(t, t.TempDir(), "host", "")
	attempts := new(int)
	config := &ssh.ServerConfig{}
	if interactive {
		config.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			*attempts++
			answers, err := ask("", "", []string{"Name shown: ", "Password: "}, []bool{true, false})
			if err != nil || !slices.Equal(answers, []string{"", password}) {
				return nil, os.ErrPermission
			}
			return nil, nil
		}
	} else {
		config.PasswordCallback = func(_ ssh.ConnMetadata, given []byte) (*ssh.Permissions, error) {
			*attempts++
			if string(given) != password {
				return nil, os.ErrPermission
			}
			return nil, nil
		}
	}
	addr := serveSSH(t, config, hostKey.Signer)
	kh := write(t, filepath.Join(t.TempDir(), "kh"), "["+addr.IP.String()+"]:"+strconv.Itoa(addr.Port)+" "+hostKey.Line+"\n")
	return Config{Host: addr.IP.String(), Port: strconv.Itoa(addr.Port), User: "u", KnownHostsFile: kh, SSHConfig: "none"}, attempts
}

func TestLogin_Password(t *testing.T) {
	noAgent(t)
	for name, interactive := range map[string]bool{"password": false, "keyboard-interactive": true} {
		t.Run(name, func(t *testing.T) {
			cfg, attempts := passwordServer(t, "right", interactive)
			cfg.Pass = hide(t, "right")
			if dial(t, cfg).Unattended() == interactive { // the questions may be for a code
				t.Errorf("whether somebody is asked: %v", !interactive)
			}
			cfg.Pass = hide(t, "wrong")
			wantError(t, dialFails(t, cfg), KindAuth, false, "the password")
			if *attempts != 2 {
				t.Errorf("%d attempts, a wrong password must not be tried again", *attempts)
			}
		})
	}
}

// A password that was typed is kept for further connections and forgotten when
// the host refuses it.
func TestLogin_AskPassword(t *testing.T) {
	noAgent(t)
	cfg, _ := passwordServer(t, "right", false)
	cfg.AskPassword = true
	account := "u@" + net.JoinHostPort(cfg.Host, cfg.Port)
	typed.mu.Lock()
	typed.passwords[account] = "right"
	typed.mu.Unlock()
	if dial(t, cfg).Unattended() {
		t.Error("a password that was typed, which may be for one time, is used again")
	}
	typed.mu.Lock()
	typed.passwords[account] = "stale"
	typed.mu.Unlock()
	wantError(t, dialFails(t, cfg), KindAuth, false, "the password typed")
	typed.mu.Lock()
	defer typed.mu.Unlock()
	if typed.passwords[account] != "" {
		t.Error("a refused password is kept")
	}
}
