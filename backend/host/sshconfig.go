package host

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	rclone "github.com/rclone/rclone/fs"

	"github.com/kevinburke/ssh_config"
)

// sshSettings answers what the ssh config files say about a host alias. As in
// OpenSSH the first value found counts, the user's file before the system's.
type sshSettings struct {
	files []*ssh_config.Config
}

// systemSSHConfig is read after the user's file.
const systemSSHConfig = "/etc/ssh/ssh_config"

// loadSSHConfig reads the files that option ssh_config names: one file, none
// with "none", or OpenSSH's usual two.
func loadSSHConfig(cfg Config) (*sshSettings, error) {
	switch cfg.SSHConfig {
	case "none":
		return &sshSettings{}, nil
	case "":
		s := &sshSettings{}
		for _, name := range []string{inHome("~/.ssh/config"), systemSSHConfig} {
			if file, err := readSSHConfig(name); err == nil {
				s.files = append(s.files, file)
			} else if !errors.Is(err, fs.ErrNotExist) {
				unusable.notice(name, "%s is not used: %v; set ssh = ssh to have the ssh program read it", name, err)
			}
		}
		return s, nil
	}
	name := optionPath(cfg.SSHConfig)
	file, err := readSSHConfig(name)
	if err != nil {
		return nil, refuse(cfg.Host, "read ssh_config", KindConfig, "%s: %w", name, err)
	}
	return &sshSettings{files: []*ssh_config.Config{file}}, nil
}

func readSSHConfig(name string) (*ssh_config.Config, error) {
	text, err := os.ReadFile(filepath.Clean(name))
	if err != nil {
		return nil, err
	}
	text, dropped := dropMatch(text)
	if dropped {
		unusable.notice(name, "%s: Match blocks are ignored, except \"Match all\" and \"Match host\"; set ssh = ssh to have the ssh program read them", name)
	}
	return ssh_config.DecodeBytes(text)
}

var (
	blockLine  = regexp.MustCompile(`(?i)^\s*(host|match)[\s=]`)
	usedMatch  = regexp.MustCompile(`(?i)^\s*match[\s=]+(all\s*$|host\s+\S+\s*$)`)
	matchStart = regexp.MustCompile(`(?i)^\s*match[\s=]`)
)

// dropMatch removes the Match blocks whose conditions cannot be evaluated
// here. Lines stay counted, for the messages of the parser.
func dropMatch(text []byte) (kept []byte, dropped bool) {
	var out bytes.Buffer
	skipping := false
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := lines.Bytes()
		if blockLine.Match(line) {
			skipping = matchStart.Match(line) && !usedMatch.Match(line)
		}
		if skipping {
			dropped = true
		} else {
			out.Write(line)
		}
		out.WriteByte('\n')
	}
	if lines.Err() != nil {
		return text, false
	}
	return out.Bytes(), dropped
}

// get returns the first value of a keyword, or "".
func (s *sshSettings) get(alias, keyword string) string {
	for _, file := range s.files {
		if value, err := file.Get(alias, keyword); err == nil && value != "" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// all returns every value of a keyword that may be repeated.
func (s *sshSettings) all(alias, keyword string) []string {
	var list []string
	for _, file := range s.files {
		if values, err := file.GetAll(alias, keyword); err == nil {
			list = append(list, values...)
		}
	}
	return list
}

// words splits a value into words; double quotes keep spaces.
func words(value string) []string {
	var list []string
	var word strings.Builder
	quoted, started := false, false
	for _, r := range value {
		switch {
		case r == '"':
			quoted, started = !quoted, true
		case !quoted && (r == ' ' || r == '\t'):
			if started {
				list = append(list, word.String())
			}
			word.Reset()
			started = false
		default:
			word.WriteRune(r)
			started = true
		}
	}
	if started {
		list = append(list, word.String())
	}
	return list
}

// unusable gives each notice about a config file once per process, since a
// transfer dials many times.
var unusable = &once{said: map[string]struct{}{}}

type once struct {
	mu   sync.Mutex
	said map[string]struct{} // hold mu
}

func (o *once) notice(topic, format string, args ...any) {
	o.mu.Lock()
	_, known := o.said[topic]
	o.said[topic] = struct{}{}
	o.mu.Unlock()
	if !known {
		rclone.Logf(nil, format, args...)
	}
}
