package packages

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// machine is a copy of this machine's file system: what is written there goes to a folder of its own.
type machine struct {
	dir   string
	env   []string
	first string // process id of its systemd, when it was booted
}

// enter mounts all that a program needs to feel at home, and runs it. It does so in a mount namespace of its own,
// which the kernel takes down with the last process in it: nothing is left, whatever happens to the test.
const enter = `set -e
cd "$1"
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work none root
for d in proc dev sys; do mount --rbind /$d root/$d; done
mount -t tmpfs none root/run
mount -t tmpfs none root/tmp
shift
exec chroot root "$@"`

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{dir: t.TempDir(), env: []string{"HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "TMPDIR="}}
	for _, name := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(m.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// try runs a program there.
func (m *machine) try(args ...string) (string, error) {
	if m.first != "" {
		return output("/", m.env, append([]string{"nsenter", "--target", m.first, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"}, args...)...)
	}
	return output("/", m.env, append([]string{"unshare", "--mount", "--propagation", "private", "sh", "-c", enter, "sh", m.dir}, args...)...)
}

// run runs a program there that must succeed.
func (m *machine) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// shell runs a line of shell there that must succeed.
func (m *machine) shell(t *testing.T, line string) string {
	t.Helper()
	return m.run(t, "bash", "-euc", line)
}

// add puts a file of this machine there; the folder exists on both.
func (m *machine) add(t *testing.T, from, to string) {
	t.Helper()
	folder, err := os.Stat(filepath.Dir(to))
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(m.dir, "upper", to)
	if err := os.MkdirAll(filepath.Dir(copied), folder.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// records are where dpkg and what it calls note what happened. They are not part of a package.
var records = []string{"/var/lib/dpkg/", "/var/log/", "/var/cache/", "/var/lib/systemd/"}

// changed lists what differs from this machine: files that were written, or removed (as the devices that overlayfs has
// for them), and folders that are not here.
func (m *machine) changed(t *testing.T) []string {
	t.Helper()
	upper := filepath.Join(m.dir, "upper")
	var list []string
	err := filepath.WalkDir(upper, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == upper {
			return err
		}
		name := strings.TrimPrefix(path, upper)
		if entry.IsDir() {
			if _, err := os.Lstat(name); err == nil {
				return nil
			}
		}
		if !slices.ContainsFunc(records, func(r string) bool { return strings.HasPrefix(name+"/", r) }) {
			list = append(list, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
