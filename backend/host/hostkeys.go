package host

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// hostKeys verifies the key of one host against known_hosts files.
type hostKeys struct {
	name  string // of the host, for messages
	entry string // host:port to look up
	files []string
	check ssh.HostKeyCallback // nil when none of the files exists
}

// loadHostKeys reads the known_hosts files of t; files that do not exist count
// as empty.
func loadHostKeys(t *target) (*hostKeys, error) {
	k := &hostKeys{name: t.name, entry: t.hostKeyName, files: t.knownHosts}
	var present []string
	for _, name := range k.files {
		if _, err := os.Stat(name); err == nil {
			present = append(present, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, refuse(t.name, "read known_hosts", KindHostKey, "%w", err)
		}
	}
	if len(present) == 0 {
		return k, nil
	}
	check, err := knownhosts.New(present...)
	if err != nil {
		return nil, refuse(t.name, "read known_hosts", KindHostKey, "%w: correct or remove that line", err)
	}
	k.check = check
	return k, nil
}

// verify implements ssh.HostKeyCallback; it looks up the host by its own name
// whatever the address was. Errors are of type *Error.
func (k *hostKeys) verify(_ string, remote net.Addr, key ssh.PublicKey) error {
	err := k.lookup(remote, key)
	if err == nil {
		return nil
	}
	var mismatch *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	switch {
	case errors.As(err, &revoked):
		return refuse(k.name, "verify host key", KindHostKey, "the key %s is marked as revoked in %s:%d: do not connect",
			ssh.FingerprintSHA256(key), revoked.Revoked.Filename, revoked.Revoked.Line)
	case errors.As(err, &mismatch) && len(mismatch.Want) == 0:
		return refuse(k.name, "verify host key", KindHostKey, "%w", &UnknownKeyError{key, k.files[0], k.entry})
	case errors.As(err, &mismatch):
		known := closest(mismatch.Want, key.Type())
		return refuse(k.name, "verify host key", KindHostKey,
			"THE HOST KEY HAS CHANGED, somebody may be intercepting the connection: the host shows the %s key %s, but %s:%d has %s; if the change is legitimate, replace that line",
			key.Type(), ssh.FingerprintSHA256(key), known.Filename, known.Line, ssh.FingerprintSHA256(known.Key))
	}
	return refuse(k.name, "verify host key", KindHostKey, "the host certificate is not accepted: %w", err)
}

// lookup checks one key. A host on an unusual port may also be listed without
// a port, as OpenSSH allows.
func (k *hostKeys) lookup(remote net.Addr, key ssh.PublicKey) error {
	if k.check == nil {
		return &knownhosts.KeyError{}
	}
	err := k.check(k.entry, remote, key)
	var unknown *knownhosts.KeyError
	host, port, splitErr := net.SplitHostPort(k.entry)
	if splitErr != nil || port == defaultPort || !errors.As(err, &unknown) || len(unknown.Want) > 0 {
		return err
	}
	if k.check(net.JoinHostPort(host, defaultPort), remote, key) == nil {
		return nil
	}
	return err
}

// known lists the keys that the files hold for the host.
func (k *hostKeys) known() []knownhosts.KnownKey {
	probe := probeKey{}
	err := k.lookup(&net.TCPAddr{IP: net.IPv4zero}, probe)
	var mismatch *knownhosts.KeyError
	if errors.As(err, &mismatch) && len(mismatch.Want) > 0 {
		return mismatch.Want
	}
	host, _, splitErr := net.SplitHostPort(k.entry)
	if splitErr != nil || k.check == nil {
		return nil
	}
	err = k.check(net.JoinHostPort(host, defaultPort), &net.TCPAddr{IP: net.IPv4zero}, probe)
	if errors.As(err, &mismatch) {
		return mismatch.Want
	}
	return nil
}

// algorithms orders the host key algorithms: first those for which the files
// hold a key, so that a host with several keys shows the one that is known.
// Certificates are asked for only where an authority is listed.
func (k *hostKeys) algorithms() []string {
	var preferred []string
	authority := false
	for _, known := range k.known() {
		if isAuthority(known) {
			authority = true
			continue
		}
		preferred = append(preferred, keyAlgorithms(known.Key.Type())...)
	}
	var certified, plain []string
	for _, algorithm := range ssh.SupportedAlgorithms().HostKeys {
		if strings.Contains(algorithm, "-cert-v01") {
			certified = append(certified, algorithm)
		} else if !slices.Contains(preferred, algorithm) {
			plain = append(plain, algorithm)
		}
	}
	if authority {
		return slices.Concat(certified, preferred, plain)
	}
	return slices.Concat(preferred, plain)
}

// keyAlgorithms gives the safe signature algorithms for a type of key.
func keyAlgorithms(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	if slices.Contains(ssh.SupportedAlgorithms().HostKeys, keyType) {
		return []string{keyType}
	}
	return nil
}

// isAuthority tells a @cert-authority line from one with the host's own key.
func isAuthority(known knownhosts.KnownKey) bool {
	file, err := os.Open(known.Filename)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		if number == known.Line {
			return strings.HasPrefix(strings.TrimSpace(lines.Text()), "@cert-authority")
		}
	}
	return false
}

// closest picks the entry of the same type, else the first.
func closest(list []knownhosts.KnownKey, keyType string) knownhosts.KnownKey {
	for _, k := range list {
		if k.Key.Type() == keyType {
			return k
		}
	}
	return list[0]
}

// probeKey equals no key, so that looking it up lists the keys of the host.
type probeKey struct{}

func (probeKey) Type() string    { return "probe" }
func (probeKey) Marshal() []byte { return []byte("probe") }
func (probeKey) Verify([]byte, *ssh.Signature) error {
	return fmt.Errorf("internal error: the probe key signs nothing")
}
