package harness

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Key is a throw-away ed25519 key in the files that ssh programs expect.
type Key struct {
	File   string // private key in OpenSSH format; the public key is in File + ".pub"
	Line   string // public key as a line of authorized_keys, without line end
	Public ssh.PublicKey
	Signer ssh.Signer
}

// NewKey writes a key into the folder. With a passphrase the private key is encrypted by it.
func NewKey(t testing.TB, dir, name, passphrase string) *Key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(private, name)
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, name, []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	k := &Key{File: filepath.Join(dir, name), Public: signer.PublicKey(), Signer: signer}
	k.Line = string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(k.Public)))
	writeFile(t, k.File, pem.EncodeToMemory(block))
	writeFile(t, k.File+".pub", []byte(k.Line+"\n"))
	return k
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
