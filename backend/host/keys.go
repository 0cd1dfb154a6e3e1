package host

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	sshagent "github.com/xanzy/ssh-agent"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// fileKey loads a private key and its certificate: the given one, or one beside
// the key, or one of the ssh config. With a certificate both are offered.
func (l *login) fileKey(file, passphrase string, certificate *ssh.Certificate) ([]ssh.Signer, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the private key: %w", err)
	}
	signer, err := parseKey(text, passphrase, file)
	if err != nil {
		return nil, err
	}
	if certificate == nil {
		certificate = l.certificateFor(signer.PublicKey(), file+"-cert.pub")
	}
	return l.certified(signer, certificate, file)
}

// pemKey loads the key of option key_pem, whose line ends are written as \n.
func (l *login) pemKey(passphrase string, certificate *ssh.Certificate) ([]ssh.Signer, error) {
	text, err := strconv.Unquote(`"` + l.t.cfg.KeyPem + `"`)
	if err != nil {
		return nil, fmt.Errorf("key_pem is not one line with \\n for line ends: %w", err)
	}
	signer, err := parseKey([]byte(text), passphrase, "key_pem")
	if err != nil {
		return nil, err
	}
	return l.certified(signer, certificate, "key_pem")
}

func parseKey(text []byte, passphrase, name string) (ssh.Signer, error) {
	var signer ssh.Signer
	var err error
	if passphrase == "" {
		signer, err = ssh.ParsePrivateKey(text)
	} else {
		signer, err = ssh.ParsePrivateKeyWithPassphrase(text, []byte(passphrase))
	}
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("%s needs a passphrase: set key_file_pass, or add the key to the ssh-agent and set key_use_agent", name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be used: %w", name, err)
	}
	return signer, nil
}

// certified notes the key as offered, before it its certificate.
func (l *login) certified(signer ssh.Signer, certificate *ssh.Certificate, name string) ([]ssh.Signer, error) {
	fingerprint := ssh.FingerprintSHA256(signer.PublicKey())
	if certificate == nil {
		l.offered = append(l.offered, name+" ("+fingerprint+")")
		return []ssh.Signer{signer}, nil
	}
	certSigner, err := ssh.NewCertSigner(certificate, signer)
	if err != nil {
		return nil, fmt.Errorf("the certificate %q does not belong to %s: %w", certificate.KeyId, name, err)
	}
	l.offered = append(l.offered, fmt.Sprintf("%s with certificate %q (%s)", name, certificate.KeyId, fingerprint))
	return []ssh.Signer{certSigner, signer}, nil
}

// certificateFor searches the certificate of a key; nil when there is none.
func (l *login) certificateFor(key ssh.PublicKey, beside string) *ssh.Certificate {
	for _, file := range append(l.t.certificates, beside) {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		certificate, err := parseCertificate(text, file)
		if err != nil {
			l.skipped = append(l.skipped, err.Error())
			continue
		}
		if bytes.Equal(certificate.Key.Marshal(), key.Marshal()) {
			return certificate
		}
	}
	return nil
}

// namedCertificate loads the certificate of options pubkey or pubkey_file.
func (l *login) namedCertificate() (*ssh.Certificate, error) {
	text, name := []byte(l.t.cfg.PubKey), "pubkey"
	if len(text) == 0 {
		if l.t.cfg.PubKeyFile == "" {
			return nil, nil
		}
		name = optionPath(l.t.cfg.PubKeyFile)
		var err error
		if text, err = os.ReadFile(name); err != nil {
			return nil, refuse(l.t.name, "log in", KindAuth, "cannot read the certificate: %w", err)
		}
	}
	certificate, err := parseCertificate(text, name)
	if err != nil {
		return nil, refuse(l.t.name, "log in", KindAuth, "%w", err)
	}
	return certificate, nil
}

func parseCertificate(text []byte, name string) (*ssh.Certificate, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s is no certificate: %w", name, err)
	}
	certificate, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, fmt.Errorf("%s is a plain public key, not a certificate", name)
	}
	return certificate, nil
}

// agentKeys is a connection to an ssh-agent; nil means there is none.
type agentKeys struct {
	client agent.Agent
	conn   net.Conn
}

// dialAgent connects to the agent at a socket, or to the usual one.
func dialAgent(socket string) (*agentKeys, error) {
	if socket == "" {
		client, conn, err := sshagent.New()
		if err != nil {
			return nil, err
		}
		return &agentKeys{client: client, conn: conn}, nil
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	return &agentKeys{client: agent.NewClient(conn), conn: conn}, nil
}

func (a *agentKeys) close() {
	if a != nil && a.conn != nil {
		_ = a.conn.Close()
	}
}

// signers lists the agent's keys.
func (a *agentKeys) signers(l *login) []ssh.Signer {
	if a == nil {
		return nil
	}
	list, err := a.client.Signers()
	if err != nil {
		l.skipped = append(l.skipped, "the ssh-agent: "+err.Error())
		return nil
	}
	return list
}

// fromAgent notes keys of the agent as offered.
func (l *login) fromAgent(signers ...ssh.Signer) []ssh.Signer {
	l.attended = l.attended || len(signers) > 0
	for _, s := range signers {
		l.offered = append(l.offered, "ssh-agent ("+ssh.FingerprintSHA256(s.PublicKey())+")")
	}
	return signers
}

// take moves the key of an identity file out of held: the file may be the
// private key with a .pub beside it, or the public key itself.
func (a *agentKeys) take(held *[]ssh.Signer, file string) ssh.Signer {
	if a == nil {
		return nil
	}
	for _, name := range []string{file + ".pub", file} {
		key, err := readPublicKey(name)
		if err != nil {
			continue
		}
		for i, s := range *held {
			if bytes.Equal(s.PublicKey().Marshal(), key.Marshal()) {
				*held = append((*held)[:i:i], (*held)[i+1:]...)
				return s
			}
		}
	}
	return nil
}

// agentOnly finds the agent's key for key_file when key_use_agent is set.
func (l *login) agentOnly(file string) ([]ssh.Signer, error) {
	held, err := l.agent.client.Signers()
	if err != nil {
		return nil, refuse(l.t.name, "log in", KindAuth, "the ssh-agent does not list its keys: %w", err)
	}
	signer := l.agent.take(&held, file)
	if signer == nil {
		return nil, refuse(l.t.name, "log in", KindAuth, "the ssh-agent does not hold the key of %s, or its public half is not in %s.pub: run ssh-add %s", file, file, file)
	}
	l.fromAgent(signer)
	certificate, err := l.namedCertificate()
	if err != nil {
		return nil, err
	}
	if certificate == nil {
		return []ssh.Signer{signer}, nil
	}
	certSigner, err := ssh.NewCertSigner(certificate, signer)
	if err != nil {
		return nil, refuse(l.t.name, "log in", KindAuth, "the certificate %q does not belong to %s: %w", certificate.KeyId, file, err)
	}
	return []ssh.Signer{certSigner, signer}, nil
}

func readPublicKey(name string) (ssh.PublicKey, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	return key, err
}
