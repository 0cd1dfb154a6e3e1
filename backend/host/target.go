package host

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/lib/env"
)

// target is a host with everything settled: options first, then the ssh config
// files, then OpenSSH's defaults.
type target struct {
	cfg  Config
	name string // as the user wrote it
	host string // to dial
	port string
	user string

	// hostKeyName is the name that known_hosts has, as in host:port.
	hostKeyName string
	knownHosts  []string // files, the one to add lines to first

	identities     []string // IdentityFile of the ssh config
	identitiesOnly bool
	certificates   []string
	agentSocket    string        // "" for the usual one
	agentOff       bool          // IdentityAgent none
	jumps          []string      // ProxyJump, the nearest first
	dialTimeout    time.Duration // of the ssh config; 0 means unset
}

const defaultPort = "22"

// resolve settles the target of cfg. Errors are of type *Error.
func resolve(cfg Config) (*target, error) {
	s, err := loadSSHConfig(cfg)
	if err != nil {
		return nil, err
	}
	t := &target{cfg: cfg, name: cfg.Host}
	t.user = first(cfg.User, s.get(t.name, "User"), env.CurrentUser())
	t.port = first(cfg.Port, s.get(t.name, "Port"), defaultPort)
	if n, err := strconv.ParseUint(t.port, 10, 16); err != nil || n == 0 {
		return nil, refuse(t.name, "connect", KindConfig, "the port %q is not a number from 1 to 65535", t.port)
	}
	t.host = strings.NewReplacer("%%", "%", "%h", t.name).Replace(first(s.get(t.name, "HostName"), t.name))
	t.hostKeyName = net.JoinHostPort(t.host, t.port)
	if alias := s.get(t.name, "HostKeyAlias"); alias != "" {
		t.hostKeyName = net.JoinHostPort(alias, defaultPort)
	}
	if err := t.findKnownHosts(s); err != nil {
		return nil, err
	}
	t.findIdentities(s)
	t.findTimes(s)
	return t, t.findJumps(s)
}

func (t *target) findKnownHosts(s *sshSettings) error {
	if strict := strings.ToLower(s.get(t.name, "StrictHostKeyChecking")); strict == "no" || strict == "off" || strict == "accept-new" {
		fs.Debugf(t.name, "StrictHostKeyChecking %s of the ssh config is ignored: host keys are always verified", strict)
	}
	switch t.cfg.KnownHostsFile {
	case "":
	case "none":
		return refuse(t.name, "connect", KindConfig, "known_hosts_file = none is not supported, host keys are always verified: leave it blank or name a file")
	default:
		t.knownHosts = []string{optionPath(t.cfg.KnownHostsFile)}
		return nil
	}
	user := first(s.get(t.name, "UserKnownHostsFile"), "~/.ssh/known_hosts ~/.ssh/known_hosts2")
	system := first(s.get(t.name, "GlobalKnownHostsFile"), "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2")
	for _, name := range append(words(user), words(system)...) {
		if name = t.expand(name); name != "none" && name != os.DevNull {
			t.knownHosts = append(t.knownHosts, name)
		}
	}
	if len(t.knownHosts) == 0 {
		return refuse(t.name, "connect", KindConfig, "the ssh config names no known_hosts file, and host keys are always verified: set known_hosts_file")
	}
	return nil
}

func (t *target) findIdentities(s *sshSettings) {
	for _, name := range s.all(t.name, "IdentityFile") {
		if name != "none" {
			t.identities = append(t.identities, t.expand(name))
		}
	}
	for _, name := range s.all(t.name, "CertificateFile") {
		if name != "none" {
			t.certificates = append(t.certificates, t.expand(name))
		}
	}
	t.identitiesOnly = strings.EqualFold(s.get(t.name, "IdentitiesOnly"), "yes")
	switch agent := s.get(t.name, "IdentityAgent"); {
	case agent == "none":
		t.agentOff = true
	case strings.HasPrefix(agent, "$"):
		t.agentSocket = os.Getenv(strings.Trim(agent[1:], "{}"))
	case agent != "" && agent != "SSH_AUTH_SOCK":
		t.agentSocket = t.expand(agent)
	}
}

func (t *target) findTimes(s *sshSettings) {
	if seconds := s.get(t.name, "ConnectTimeout"); seconds != "" && seconds != "none" {
		if d, err := fs.ParseDuration(seconds); err == nil && d > 0 {
			t.dialTimeout = d
		}
	}
}

func (t *target) findJumps(s *sshSettings) error {
	if jump := s.get(t.name, "ProxyJump"); jump != "" {
		if !strings.EqualFold(jump, "none") {
			t.jumps = splitList(jump)
		}
		return nil
	}
	if command := s.get(t.name, "ProxyCommand"); command != "" && !strings.EqualFold(command, "none") {
		return refuse(t.name, "connect", KindConfig, "the ssh config has a ProxyCommand for this host, which the built-in SSH cannot run: set ssh = ssh, or use ProxyJump")
	}
	return nil
}

func splitList(s string) []string {
	var list []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// expand replaces the leading ~, environment variables and the tokens of
// ssh_config in a file name.
func (t *target) expand(name string) string {
	name = strings.NewReplacer("%%", "%", "%h", t.host, "%n", t.name, "%p", t.port, "%r", t.user,
		"%u", env.CurrentUser(), "%d", inHome("~/."), "%k", strings.TrimSuffix(t.hostKeyName, ":"+defaultPort)).Replace(inHome(name))
	return os.ExpandEnv(name)
}

// optionPath is the file that an rclone option names.
func optionPath(name string) string { return os.ExpandEnv(inHome(name)) }

// inHome replaces a leading "~/" by the home directory, where there is one.
func inHome(name string) string {
	rest, ok := strings.CutPrefix(name, "~/")
	if !ok {
		return name
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return name
	}
	return filepath.Join(home, rest)
}

func (t *target) address() string { return net.JoinHostPort(t.host, t.port) }

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
