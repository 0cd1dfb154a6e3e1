package host

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config"
	"github.com/rclone/rclone/fs/config/obscure"
	"golang.org/x/crypto/ssh"
)

// login gathers the ways to log in to one target and what became of them, for
// the message when none is accepted.
type login struct {
	t        *target
	agent    *agentKeys
	attended bool     // see link
	offered  []string // what the host may be shown, in words
	skipped  []string // what could not be used and why
	prompt   func()   // called before the user is asked for something
}

// methods lists the ways to log in, the most specific first. Close the login
// afterwards. Errors are of type *Error.
func (l *login) methods() ([]ssh.AuthMethod, error) {
	signers, err := l.signers()
	if err != nil {
		return nil, err
	}
	var list []ssh.AuthMethod
	if len(signers) > 0 {
		list = append(list, ssh.PublicKeys(signers...))
	}
	cfg := l.t.cfg
	switch {
	case cfg.Pass != "":
		password, err := obscure.Reveal(cfg.Pass)
		if err != nil {
			return nil, refuse(l.t.name, "log in", KindConfig, "option pass: %w: set it with \"rclone config\" or \"rclone obscure\"", err)
		}
		l.offered = append(l.offered, "the password")
		list = append(list, l.passwordMethods(func() (string, error) { return password, nil })...)
	case cfg.AskPassword:
		l.offered = append(l.offered, "the password typed")
		list = append(list, l.passwordMethods(l.ask)...)
	}
	return list, nil
}

// close frees the connection to the agent.
func (l *login) close() { l.agent.close() }

// signers gathers the keys to offer. A server counts each refused key as an
// attempt and allows about six, so the likely ones come first.
func (l *login) signers() ([]ssh.Signer, error) {
	cfg := l.t.cfg
	named := cfg.KeyFile != "" || cfg.KeyPem != ""
	if !named && !cfg.KeyUseAgent && (cfg.Pass != "" || cfg.AskPassword) {
		return nil, nil
	}
	if named && !cfg.KeyUseAgent {
		return l.namedKey()
	}
	if err := l.openAgent(); err != nil {
		return nil, err
	}
	if cfg.KeyUseAgent && cfg.KeyFile != "" {
		return l.agentOnly(optionPath(cfg.KeyFile))
	}
	if cfg.KeyUseAgent {
		return l.fromAgent(l.agent.signers(l)...), nil
	}
	return l.usualKeys(), nil
}

// openAgent connects to the agent; a missing one matters only to key_use_agent.
func (l *login) openAgent() error {
	if l.t.agentOff && !l.t.cfg.KeyUseAgent {
		return nil
	}
	agent, err := dialAgent(l.t.agentSocket)
	if err == nil {
		l.agent = agent
		return nil
	}
	if l.t.cfg.KeyUseAgent {
		return refuse(l.t.name, "log in", KindAuth, "key_use_agent is set but the ssh-agent does not answer: %w: start it and set SSH_AUTH_SOCK", err)
	}
	fs.Debugf(l.t.name, "ssh-agent is not used: %v", err)
	return nil
}

// usualKeys does what OpenSSH does without -i: the identities of the ssh config
// first, through the agent where it has them, then the agent's other keys, and
// the default key files where no identity is configured.
func (l *login) usualKeys() []ssh.Signer {
	files, explicit := l.t.identities, true
	if len(files) == 0 {
		explicit = false
		files = []string{inHome("~/.ssh/id_ed25519"), inHome("~/.ssh/id_ecdsa"), inHome("~/.ssh/id_rsa")}
	}
	held := l.agent.signers(l)
	var fromFiles, rest []ssh.Signer
	for _, file := range files {
		if signer := l.agent.take(&held, file); signer != nil {
			fromFiles = append(fromFiles, l.fromAgent(signer)...)
			continue
		}
		signers, err := l.fileKey(file, "", nil)
		switch {
		case err == nil:
			fromFiles = append(fromFiles, signers...)
		case explicit || !errors.Is(err, os.ErrNotExist):
			l.skipped = append(l.skipped, err.Error())
		}
	}
	if !l.t.identitiesOnly {
		rest = l.fromAgent(held...)
	}
	if explicit {
		return append(fromFiles, rest...)
	}
	return append(rest, fromFiles...)
}

// namedKey loads the key of options key_pem or key_file.
func (l *login) namedKey() ([]ssh.Signer, error) {
	cfg := l.t.cfg
	passphrase := ""
	if cfg.KeyFilePass != "" {
		var err error
		if passphrase, err = obscure.Reveal(cfg.KeyFilePass); err != nil {
			return nil, refuse(l.t.name, "log in", KindConfig, "option key_file_pass: %w: set it with \"rclone config\" or \"rclone obscure\"", err)
		}
	}
	certificate, err := l.namedCertificate()
	if err != nil {
		return nil, err
	}
	var signers []ssh.Signer
	if cfg.KeyPem != "" {
		signers, err = l.pemKey(passphrase, certificate)
	} else {
		signers, err = l.fileKey(optionPath(cfg.KeyFile), passphrase, certificate)
	}
	if err != nil {
		return nil, refuse(l.t.name, "log in", KindAuth, "%w", err)
	}
	return signers, nil
}

// passwordMethods offers a password in both ways that servers ask for one.
func (l *login) passwordMethods(password func() (string, error)) []ssh.AuthMethod {
	answer := func(_, _ string, questions []string, echos []bool) ([]string, error) {
		l.attended = true
		answers := make([]string, len(questions))
		for i := range questions {
			// What is shown while typing is not the question for the password.
			if echos[i] {
				continue
			}
			var err error
			if answers[i], err = password(); err != nil {
				return nil, err
			}
		}
		return answers, nil
	}
	return []ssh.AuthMethod{ssh.PasswordCallback(password), ssh.KeyboardInteractive(answer)}
}

// typed keeps the passwords that the user typed, by user@host:port, until the
// process ends or the host refuses them.
var typed = struct {
	mu        sync.Mutex
	passwords map[string]string // hold mu
}{passwords: map[string]string{}}

// ask gets the password from the user, once per host.
func (l *login) ask() (string, error) {
	l.attended = true
	typed.mu.Lock()
	defer typed.mu.Unlock()
	if password, ok := typed.passwords[l.account()]; ok {
		return password, nil
	}
	l.prompt()
	fmt.Fprintf(os.Stderr, "SSH password for %s: ", l.account())
	password := config.ReadPassword()
	if password == "" {
		return "", errors.New("no password was typed")
	}
	typed.passwords[l.account()] = password
	return password, nil
}

func (l *login) account() string { return l.t.user + "@" + l.t.address() }

// refused is the error after the host has accepted none of the methods.
func (l *login) refused(err error) *Error {
	typed.mu.Lock()
	delete(typed.passwords, l.account())
	typed.mu.Unlock()
	tried := "nothing, since there is no key, agent or password to offer"
	if len(l.offered) > 0 {
		tried = strings.Join(l.offered, ", ")
	}
	if len(l.skipped) > 0 {
		tried += "; could not use: " + strings.Join(l.skipped, "; ")
	}
	return refuse(l.t.name, "log in", KindAuth,
		"%s was not accepted, tried %s: add the public key to ~/.ssh/authorized_keys of %s there, or name another key or user: %w", l.account(), tried, l.t.user, err)
}
