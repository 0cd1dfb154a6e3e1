package host

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

const sampleConfig = `
User everywhere
Host db
  HostName db1.example.com
  User admin
  Port 2200
  IdentityFile ~/.ssh/db key
  IdentityFile "/keys/%h-%r-%p"
  IdentitiesOnly yes
  CertificateFile /keys/cert.pub
  UserKnownHostsFile /kh/one "/kh/two three"
  GlobalKnownHostsFile none
  ConnectTimeout 7
  ProxyJump bastion,user@inner:2222
Host alias
  HostKeyAlias canonical
Host *.lan
  HostName %h.example.com
Host through
  ProxyCommand nc %h %p
Host direct
  ProxyCommand none
  ProxyJump none
Host quiet
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking no
Match user root exec "true"
  Port 9999
Match all
  IdentityAgent none
`

func sample(t *testing.T) (Config, string) {
	t.Helper()
	dir, _ := home(t)
	return Config{SSHConfig: write(t, filepath.Join(dir, "config"), sampleConfig)}, dir
}

func TestResolve_Alias(t *testing.T) {
	cfg, dir := sample(t)
	cfg.Host = "db"
	got, err := resolve(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got.user != "everywhere" || got.address() != "db1.example.com:2200" || got.hostKeyName != "db1.example.com:2200" {
		t.Errorf("got %+v", got)
	}
	for what, pair := range map[string][2][]string{
		"identities":   {got.identities, {dir + "/.ssh/db key", "/keys/db1.example.com-everywhere-2200"}},
		"certificates": {got.certificates, {"/keys/cert.pub"}},
		"known hosts":  {got.knownHosts, {"/kh/one", "/kh/two three"}},
		"jumps":        {got.jumps, {"bastion", "user@inner:2222"}},
	} {
		if !slices.Equal(pair[0], pair[1]) {
			t.Errorf("%s: got %q, want %q", what, pair[0], pair[1])
		}
	}
	if !got.identitiesOnly || !got.agentOff || got.dialTimeout != 7*time.Second {
		t.Errorf("got %+v", got)
	}
}

func TestResolve_Precedence(t *testing.T) {
	cfg, dir := sample(t)
	cfg.Host, cfg.User, cfg.Port, cfg.KnownHostsFile = "db", "me", "22", "~/kh"
	got, err := resolve(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got.user != "me" || got.address() != "db1.example.com:22" || !slices.Equal(got.knownHosts, []string{dir + "/kh"}) {
		t.Errorf("got %+v", got)
	}
}

func TestResolve_Hosts(t *testing.T) {
	tests := map[string]struct {
		address, keyName string
		fails            bool
	}{
		"other":   {address: "other:22", keyName: "other:22"},
		"::1":     {address: "[::1]:22", keyName: "[::1]:22"},
		"alias":   {address: "alias:22", keyName: "canonical:22"},
		"box.lan": {address: "box.lan.example.com:22", keyName: "box.lan.example.com:22"},
		"direct":  {address: "direct:22", keyName: "direct:22"},
		"through": {fails: true}, // ProxyCommand
		"quiet":   {fails: true}, // no known_hosts at all
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg, _ := sample(t)
			cfg.Host = name
			got, err := resolve(cfg)
			if tt.fails {
				wantError(t, err, KindConfig, false, name)
				return
			}
			if err != nil || got.address() != tt.address || got.hostKeyName != tt.keyName || len(got.jumps) != 0 {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestResolve_Files(t *testing.T) {
	dir, _ := home(t)
	_, err := resolve(Config{Host: "h", SSHConfig: dir + "/absent"})
	wantError(t, err, KindConfig, false, dir+"/absent")
	_, err = resolve(Config{Host: "h", SSHConfig: "none", Port: "65536"})
	wantError(t, err, KindConfig, false, "65536")
	// A missing ~/.ssh/config is normal, a present one is used.
	if got, err := resolve(Config{Host: "h"}); err != nil || got.port != "22" {
		t.Error(got, err)
	}
	dotSSH := filepath.Join(dir, ".ssh")
	mkdir(t, dotSSH)
	write(t, filepath.Join(dotSSH, "more"), "Host h\nPort 77\n")
	write(t, filepath.Join(dotSSH, "config"), "Include "+filepath.Join(dotSSH, "more")+"\n")
	if got, err := resolve(Config{Host: "h"}); err != nil || got.port != "77" {
		t.Error(got, err)
	}
	if got, err := resolve(Config{Host: "h", SSHConfig: "none"}); err != nil || got.port != "22" {
		t.Error(got, err)
	}
}

func TestDropMatch(t *testing.T) {
	kept, dropped := dropMatch([]byte(sampleConfig))
	if text := string(kept); !dropped || strings.Contains(text, "9999") || !strings.Contains(text, "Match all\n  IdentityAgent none") ||
		strings.Count(text, "\n") != strings.Count(sampleConfig, "\n") {
		t.Errorf("dropped %v:\n%s", dropped, text)
	}
	plain := "Host matchbox\nPort 1\n"
	if kept, dropped := dropMatch([]byte(plain)); dropped || string(kept) != plain {
		t.Errorf("%v %q", dropped, kept)
	}
}

func TestWords(t *testing.T) {
	for in, want := range map[string][]string{
		"": nil, " a  b ": {"a", "b"}, `"a b" c`: {"a b", "c"}, `a" b"c`: {"a bc"}, `""`: {""},
	} {
		if got := words(in); !slices.Equal(got, want) {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

func TestSplitHostPort(t *testing.T) {
	for in, want := range map[string][2]string{
		"h": {"h", ""}, "h:22": {"h", "22"}, "::1": {"::1", ""}, "[::1]": {"::1", ""}, "[::1]:22": {"::1", "22"}, "": {"", ""},
	} {
		if h, p := splitHostPort(in); h != want[0] || p != want[1] {
			t.Errorf("%q: got %q %q", in, h, p)
		}
	}
}

// A jump host gets no key or password that was meant for the target.
func TestConfig_Hop(t *testing.T) {
	cfg := Config{Host: "target", User: "u", Port: "1", Pass: "p", KeyFile: "k", KeyPem: "pem", PubKey: "c", KeyFilePass: "x",
		AskPassword: true, KnownHostsFile: "kh", SSHConfig: "cfg", Sudo: true}
	got := cfg.hop("ssh://me@[::1]:2222")
	want := Config{Host: "::1", User: "me", Port: "2222", KnownHostsFile: "kh", SSHConfig: "cfg"}
	if got.Key() != want.Key() {
		t.Errorf("got %+v", got)
	}
}

func TestConfig_Key(t *testing.T) {
	a, b := Config{Host: "h", Ciphers: []string{"x"}, Pass: "secret"}, Config{Host: "h", Ciphers: []string{"x"}, Pass: "secret"}
	if a.Key() != b.Key() || strings.Contains(a.Key(), "secret") {
		t.Error(a.Key(), b.Key())
	}
	b.Port = "22"
	if a.Key() == b.Key() {
		t.Error("different configurations have one key")
	}
}

// The whole way: alias, chain of jump hosts with keys and known_hosts of their
// own, all from the ssh config.
func TestDial_ProxyJump(t *testing.T) {
	harness.Goroutines(t)
	dir := noAgent(t)
	first, second, last := harness.Sshd(t), harness.Sshd(t), harness.Sshd(t)
	block := func(alias string, s *harness.Server, more ...string) string {
		return strings.Join(append([]string{"Host " + alias, "HostName 127.0.0.1", "Port " + strconv.Itoa(s.Port), "User " + s.User,
			"IdentityFile " + s.KeyFile, "UserKnownHostsFile " + s.KnownHosts}, more...), "\n ") + "\n"
	}
	config := filepath.Join(dir, "config")
	write(t, config, block("one", first)+block("two", second)+block("three", last, "ProxyJump one,two")+
		block("nested", last, "ProxyJump inner")+block("inner", second, "ProxyJump one")+
		block("loop", last, "ProxyJump loop")+block("blocked", first, "ProxyJump two")+
		"Host nowhere\n HostName 127.0.0.1\n Port 1\n ProxyJump one\n UserKnownHostsFile "+first.KnownHosts+"\n")
	for _, alias := range []string{"three", "nested"} {
		d := dial(t, Config{Host: alias, SSHConfig: config})
		start(t, d)
		if !d.Unattended() {
			t.Errorf("%s: keys in files ask somebody", alias)
		}
		for _, s := range []*harness.Server{first, second, last} {
			if strings.Count(s.Log(), "Accepted publickey") < 2 { // one is the harness's own
				t.Errorf("%s did not go through port %d", alias, s.Port)
			}
		}
		_ = d.Close()
		for _, jump := range d.remote.(*native).below {
			_ = jump.Wait() // for ever, if Close left it open
		}
	}
	wantError(t, dialFails(t, Config{Host: "loop", SSHConfig: config}), KindConfig, false, "loop", "ProxyJump")
	wantError(t, dialFails(t, Config{Host: "nowhere", SSHConfig: config}), KindConnect, true, "nowhere", "127.0.0.1:1")

	// An agent may ask its user at a jump host too.
	write(t, config, block("one", first, "IdentityAgent "+serveAgent(t, rawKey(t, first.KeyFile)))+block("three", last, "ProxyJump one"))
	if dial(t, Config{Host: "three", SSHConfig: config}).Unattended() {
		t.Error("the agent of the jump host is asked again")
	}

	// A jump host with an unknown key is refused before anything is sent through it.
	write(t, config, block("one", first)+block("three", last, "ProxyJump one"))
	write(t, first.KnownHosts, "")
	wantError(t, dialFails(t, Config{Host: "three", SSHConfig: config}), KindHostKey, false, "one:", first.KnownHosts)
}

// Match host is used as Host is; with other conditions beside it the block is not.
func TestResolve_MatchHost(t *testing.T) {
	dir, _ := home(t)
	config := write(t, filepath.Join(dir, "config"), "Match host db*\n Port 2222\n User admin\nMatch host other exec true\n Port 3333\nMatch all\n Port 4444\n")
	for name, want := range map[string]string{"db1": "2222", "other": "4444", "box": "4444"} {
		got, err := resolve(Config{Host: name, SSHConfig: config})
		if err != nil || got.port != want || (got.user == "admin") != (name == "db1") {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}
