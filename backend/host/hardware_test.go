package host

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// token is an agent with a key as FIDO tokens have it, of type sk-ssh-ed25519: what it signs says that somebody
// touched it. Only the token itself is missing.
type token struct {
	agent.ExtendedAgent
	public  []byte // in the form of the wire
	private ed25519.PrivateKey
}

const tokenType, tokenUse = "sk-ssh-ed25519@openssh.com", "ssh:"

func newToken(t *testing.T) *token {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wire := ssh.Marshal(struct {
		Type string
		Key  []byte
		Use  string
	}{tokenType, public, tokenUse})
	return &token{agent.NewKeyring().(agent.ExtendedAgent), wire, private}
}

func (k *token) List() ([]*agent.Key, error) {
	return []*agent.Key{{Format: tokenType, Blob: k.public, Comment: "token"}}, nil
}

func (k *token) SignWithFlags(_ ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	use, message := sha256.Sum256([]byte(tokenUse)), sha256.Sum256(data)
	const touched = 1
	tail := struct {
		Flags   byte
		Counter uint32
	}{touched, 7}
	signed := append(append(use[:], ssh.Marshal(tail)...), message[:]...)
	return &ssh.Signature{Format: tokenType, Blob: ed25519.Sign(k.private, signed), Rest: ssh.Marshal(tail)}, nil
}

func (k *token) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	return k.SignWithFlags(key, data, 0)
}

func (k *token) Signers() ([]ssh.Signer, error) {
	return nil, errors.New("an agent at a socket is not asked for signers")
}

// A hardware key works through the agent, with a real sshd, and also when the ssh config names its file.
func TestLogin_HardwareKey(t *testing.T) {
	dir := noAgent(t)
	s := harness.Sshd(t)
	k := newToken(t)
	key, err := ssh.ParsePublicKey(k.public)
	if err != nil {
		t.Fatal(err)
	}
	line := string(ssh.MarshalAuthorizedKey(key))
	write(t, s.AuthorizedKeys, line)
	socket := filepath.Join(t.TempDir(), "agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(k, conn) }()
		}
	}()
	cfg := serverConfig(s)
	cfg.KeyFile = ""
	wantError(t, dialFails(t, cfg), KindAuth, false, "no key, agent or password")
	t.Setenv("SSH_AUTH_SOCK", socket)
	start(t, dial(t, cfg))
	write(t, filepath.Join(dir, "id_ed25519_sk.pub"), line)
	cfg.SSHConfig = write(t, filepath.Join(dir, "config"), "IdentityFile "+dir+"/id_ed25519_sk\nIdentitiesOnly yes\n")
	start(t, dial(t, cfg))
}
