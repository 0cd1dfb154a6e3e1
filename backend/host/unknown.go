package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// UnknownKeyError says that no known_hosts file has a key for the host, which is
// the one trouble with a host key that a user may settle by comparing it.
type UnknownKeyError struct {
	Key  ssh.PublicKey // as the host showed it
	File string        // known_hosts file to add it to
	Name string        // of the host in that file
}

// Error is one line with what to do.
func (e *UnknownKeyError) Error() string {
	return fmt.Sprintf("the %s key with fingerprint %s is not in known_hosts: compare the fingerprint with the host's, then log in once with ssh, or add this line to %s: %s",
		e.Key.Type(), e.Fingerprint(), e.File, e.Line())
}

// Fingerprint is that of the key as "ssh-keygen -l" shows it.
func (e *UnknownKeyError) Fingerprint() string { return ssh.FingerprintSHA256(e.Key) }

// Line is what the file lacks.
func (e *UnknownKeyError) Line() string { return knownhosts.Line([]string{e.Name}, e.Key) }

// Pin adds the key to the file, which is made with its directory when it is
// missing. Nothing but the user's word vouches for the key.
func (e *UnknownKeyError) Pin() error {
	if err := os.MkdirAll(filepath.Dir(e.File), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(e.File, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	line := e.Line() + "\n"
	if !endsLine(f) {
		line = "\n" + line
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

// endsLine tells whether what is written next begins a line: a file that a person
// has edited may lack the last line end.
func endsLine(f *os.File) bool {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || end == 0 {
		return true
	}
	last := make([]byte, 1)
	_, err = f.ReadAt(last, end-1)
	return err == nil && last[0] == '\n'
}
