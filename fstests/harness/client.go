package harness

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Result is how a program ended.
type Result struct {
	Stdout, Stderr string
	Code           int // exit code, -1 when a signal ended it
}

// Client runs an rclone in an environment of its own: no configuration, keys or agent of the user.
type Client struct {
	Bin    string
	Home   string
	Config string            // path of rclone's configuration file, which does not exist at first
	Env    map[string]string // added to the environment, an empty value removes the name
	Dir    string            // working folder, Home at first
}

// NewClient builds rclone-blockdev and makes its home.
func NewClient(t testing.TB) *Client {
	t.Helper()
	return ClientOf(t, Bin(t, "rclone-blockdev"))
}

// ClientOf makes the home of another rclone.
func ClientOf(t testing.TB, bin string) *Client {
	t.Helper()
	home := t.TempDir()
	return &Client{
		Bin: bin, Home: home, Dir: home,
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
