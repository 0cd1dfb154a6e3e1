package harness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// BinDir is the environment variable that names a folder with finished programs, so that nothing is built again.
const BinDir = "BLOCKDEV_BIN_DIR"

// builds holds the outcome of building each program in this process.
var builds struct {
	mu   sync.Mutex
	done map[string]built // hold mu
}

type built struct {
	path string
	err  error
}

// Bin returns the path of cmd/name: from the folder that BinDir names, or built once in this process. The program
// stays in the user's cache folder, where the go tool finds it up to date the next time.
func Bin(t testing.TB, name string) string {
	t.Helper()
	builds.mu.Lock()
	defer builds.mu.Unlock()
	b, ok := builds.done[name]
	if !ok {
		b.path, b.err = locate(name)
		if builds.done == nil {
			builds.done = map[string]built{}
		}
		builds.done[name] = b
	}
	if b.err != nil {
		t.Fatalf("cannot build cmd/%s: %v", name, b.err)
	}
	return b.path
}

func locate(name string) (string, error) {
	file := name
	if runtime.GOOS == "windows" {
		file += ".exe"
	}
	if dir := os.Getenv(BinDir); dir != "" {
		path, err := filepath.Abs(filepath.Join(dir, file))
		if err != nil {
			return "", err
		}
		_, err = os.Stat(path)
		return path, err
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	// Two checkouts on one machine must not take each other's programs.
	sum := sha256.Sum256([]byte(root))
	dir := filepath.Join(cache, "rclone-blockdev-tests", hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(dir, file)
	return path, build(root, name, path)
}

// build makes cmd/name at path. The tests of several packages do this at the same time, so the go tool gets a
// name of this process, which starts as a link to the present program: go leaves it alone when it is up to date.
func build(root, name, path string) error {
	own, err := os.MkdirTemp(filepath.Dir(path), "build")
	if err != nil {
		return err
	}
	defer os.RemoveAll(own)
	fresh := filepath.Join(own, filepath.Base(path))
	_ = os.Link(path, fresh) // without the link the program is linked anew, which is only slower
	cmd := exec.Command("go", "build", "-o", fresh, "./cmd/"+name)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.New(err.Error() + "\n" + string(out))
	}
	return os.Rename(fresh, path)
}

// ModuleRoot returns the folder of go.mod above the working folder.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working folder")
		}
		dir = parent
	}
}

// Result is how a program ended.
type Result struct {
	Stdout, Stderr string
	Code           int // exit code, -1 when a signal ended it
}

// Client runs rclone-blockdev in an environment of its own: no configuration, keys or agent of the user.
type Client struct {
	Bin    string
	Home   string
	Config string            // path of rclone's configuration file, which does not exist at first
	Env    map[string]string // added to the environment, an empty value removes the name
	Dir    string            // working folder, Home at first
}

// NewClient builds the program and makes its home.
func NewClient(t testing.TB) *Client {
	t.Helper()
	home := t.TempDir()
	return &Client{
		Bin: Bin(t, "rclone-blockdev"), Home: home, Dir: home,
		Config: filepath.Join(home, "rclone.conf"), Env: map[string]string{},
	}
}

// Environ is the whole environment of the program.
func (c *Client) Environ() []string {
	env := map[string]string{
		"HOME": c.Home, "XDG_CACHE_HOME": filepath.Join(c.Home, "cache"), "RCLONE_CONFIG": c.Config,
		"PATH": os.Getenv("PATH"), "TMPDIR": os.Getenv("TMPDIR"), "USER": os.Getenv("USER"), "LC_ALL": "C",
		"SYSTEMROOT": os.Getenv("SYSTEMROOT"), // without it no Windows program can open a socket
	}
	for name, value := range c.Env {
		env[name] = value
	}
	var all []string
	for name, value := range env {
		if value != "" {
			all = append(all, name+"="+value)
		}
	}
	return all
}

// Command prepares the program for a test that needs its pipes or its process.
func (c *Client) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Bin, args...)
	cmd.Env, cmd.Dir = c.Environ(), c.Dir
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// Run runs the program to its end, at most five minutes.
func (c *Client) Run(t testing.TB, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := c.Command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("cannot run %s: %v", c.Bin, err)
	}
	return Result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// Rclone runs rclone-blockdev once with an environment of its own.
func Rclone(t testing.TB, args ...string) Result {
	t.Helper()
	return NewClient(t).Run(t, args...)
}
