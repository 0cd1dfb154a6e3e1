// Package host reaches the hosts where helpers run: it dials them over SSH,
// puts the helper there when it is missing, starts it and hands over its byte
// stream.
//
// It knows nothing of devices or of the protocol on the stream. Host keys are
// always verified, every remote command line is built in quote.go and
// bootstrap.go, and no secret is logged.
package host

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/rclone/rclone/fs"
)

// Localhost is the name of the machine that rclone itself runs on.
const Localhost = "localhost"

// Config is everything that decides how a host is reached. Empty fields are
// filled from the ssh config file and then from the defaults of OpenSSH.
type Config struct {
	Host              string          `config:"host"`
	User              string          `config:"user"`
	Port              string          `config:"port"`
	Pass              string          `config:"pass"` // obscured
	KeyPem            string          `config:"key_pem"`
	KeyFile           string          `config:"key_file"`
	KeyFilePass       string          `config:"key_file_pass"` // obscured
	PubKey            string          `config:"pubkey"`
	PubKeyFile        string          `config:"pubkey_file"`
	KnownHostsFile    string          `config:"known_hosts_file"`
	KeyUseAgent       bool            `config:"key_use_agent"`
	AskPassword       bool            `config:"ask_password"`
	Ciphers           fs.SpaceSepList `config:"ciphers"`
	KeyExchange       fs.SpaceSepList `config:"key_exchange"`
	MACs              fs.SpaceSepList `config:"macs"`
	HostKeyAlgorithms fs.SpaceSepList `config:"host_key_algorithms"`
	SSH               fs.SpaceSepList `config:"ssh"`
	SSHConfig         string          `config:"ssh_config"`
	HelperPath        string          `config:"helper_path"`
	HelperDir         string          `config:"helper_dir"`
	Sudo              bool            `config:"sudo"`
	Connections       int             `config:"connections"`
	Streams           int             `config:"streams"`
	Compress          Compress        `config:"compress"`
	Direct            Direct          `config:"direct"`
	HashLimit         int             `config:"hash_limit"`
	KeepAlive         fs.Duration     `config:"keepalive"`
	IdleTimeout       fs.Duration     `config:"idle_timeout"`
}

// Key identifies the configuration: equal keys mean that connections may be
// shared. It is a digest, so it may be logged although c holds passwords.
func (c Config) Key() string {
	text, err := json.Marshal(c)
	if err != nil {
		panic("internal error: host configuration is not serialisable: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// hop is the configuration of a jump host on the way to c: what describes
// files and algorithms is shared, while the keys and the password that were
// given for c are never offered to another host.
func (c Config) hop(spec string) Config {
	h := Config{
		KnownHostsFile:    c.KnownHostsFile,
		SSHConfig:         c.SSHConfig,
		Ciphers:           c.Ciphers,
		KeyExchange:       c.KeyExchange,
		MACs:              c.MACs,
		HostKeyAlgorithms: c.HostKeyAlgorithms,
	}
	spec = strings.TrimPrefix(spec, "ssh://")
	if at := strings.LastIndexByte(spec, '@'); at >= 0 {
		h.User, spec = spec[:at], spec[at+1:]
	}
	h.Host, h.Port = splitHostPort(spec)
	return h
}

// splitHostPort separates "host:port", "[::1]:port" and "[::1]"; a bare IPv6
// address has no port.
func splitHostPort(s string) (host, port string) {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		host, port, _ = strings.Cut(rest, "]")
		return host, strings.TrimPrefix(port, ":")
	}
	if strings.Count(s, ":") == 1 {
		host, port, _ = strings.Cut(s, ":")
		return host, port
	}
	return s, ""
}
