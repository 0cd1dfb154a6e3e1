package suites

import (
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	_ "github.com/rclone-blockdev/rclone-blockdev/backend/blockdev" // so that go test takes no old result for a new backend
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// packages have the tests that are run.
var packages = []string{"fs/sync", "fs/operations", "vfs"}

// remote is what the tests are run against, in forms that their users have too.
type remote struct {
	prefix string            // of a path on it
	env    map[string]string // values of options by their names in the environment
}

func TestSuites(t *testing.T) {
	bin := t.TempDir()
	root, err := harness.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	source, err := Compile(t.Context(), root, bin, packages)
	if err != nil {
		t.Fatal(err)
	}
	used := &usage{all: map[*skip]bool{}}
	t.Run("Remotes", func(t *testing.T) {
		for name, prepare := range map[string]func(*testing.T) remote{"Localhost": localhost, "Hashes": hashes, "Sshd": sshd} {
			t.Run(name, func(t *testing.T) {
				r := prepare(t)
				for _, pkg := range packages {
					t.Run(path.Base(pkg), func(t *testing.T) {
						t.Parallel() // they wait most of the time
						used.add(inspect(t, pkg, r.run(t, bin, source, pkg)))
					})
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	for i := range skips {
		if !used.all[&skips[i]] {
			t.Errorf("nothing was skipped for %s: take it off the list: %v", skips[i].why, skips[i].pattern)
		}
	}
}

// usage collects the reasons that were used in parallel tests.
type usage struct {
	mu  sync.Mutex
	all map[*skip]bool // hold mu
}

func (u *usage) add(some map[*skip]bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.Copy(u.all, some)
}

// run runs the tests of a package against the remote and returns what they said.
func (r remote) run(t *testing.T, bin, source, pkg string) []byte {
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, path.Base(pkg)+".test"),
		"-test.v", "-test.timeout=5m", "-remote", r.prefix+filepath.ToSlash(t.TempDir()))
	cmd.Dir = filepath.Join(source, filepath.FromSlash(pkg))
	cmd.Env = r.environ(t)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// localhost is this machine with the host in the path, as typed without a configuration.
func localhost(*testing.T) remote { return remote{prefix: "TestBlockdev:localhost"} }

// hashes is this machine as a remote that offers SHA-256 sums.
func hashes(*testing.T) remote {
	return remote{"TestBlockdev:", map[string]string{"HOST": "localhost", "HASHES": "true"}}
}

// sshd is a remote with the options for a private OpenSSH server.
func sshd(t *testing.T) remote {
	s := harness.Sshd(t)
	return remote{"TestBlockdev:", map[string]string{
		"HOST": s.Host, "PORT": strconv.Itoa(s.Port), "USER": s.User, "KEY_FILE": s.KeyFile,
		"KNOWN_HOSTS_FILE": s.KnownHosts, "SSH_CONFIG": "none", "HELPER_PATH": harness.Bin(t, "blockdev-helper"),
	}}
}

// environ keeps the configuration and caches of the user out of the tests.
func (r remote) environ(t *testing.T) []string {
	dir := t.TempDir()
	env := append(os.Environ(), "RCLONE_CONFIG="+filepath.Join(dir, "rclone.conf"), "XDG_CACHE_HOME="+dir,
		"RCLONE_CONFIG_TESTBLOCKDEV_TYPE=blockdev")
	for option, value := range r.env {
		env = append(env, "RCLONE_CONFIG_TESTBLOCKDEV_"+option+"="+value)
	}
	return env
}
