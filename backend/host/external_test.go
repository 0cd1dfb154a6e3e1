package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// programConfig reaches s with the ssh program.
func programConfig(t *testing.T, s *harness.Server) Config {
	t.Helper()
	require.Need(t, require.SSH)
	words := append([]string{"ssh"}, s.SSHArgs(s.Port)...)
	words = slices.Delete(words, slices.Index(words, "-p"), slices.Index(words, "-p")+2)
	words = slices.Delete(words, slices.Index(words, "-l"), slices.Index(words, "-l")+2)
	return Config{Host: s.Host, Port: strconv.Itoa(s.Port), User: s.User, SSH: words}
}

func TestSSHProgram_Start(t *testing.T) {
	harness.Goroutines(t)
	s := harness.Sshd(t)
	d := dial(t, programConfig(t, s))
	start(t, d)
	start(t, d)
	if files := stored(t, filepath.Join(s.Home, ".cache")); len(files) != 1 {
		t.Errorf("stored %v", files)
	}
	stream, err := d.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	<-d.Done()
	if !stream.proc.wait(0) {
		t.Error("ssh runs on after Close")
	}
}

func TestSSHProgram_Fails(t *testing.T) {
	s := harness.Sshd(t)
	good := programConfig(t, s)
	stranger := harness.NewKey(t, t.TempDir(), "stranger", "")
	tests := map[string]struct {
		change func(*Config)
		words  []string
	}{
		"refused key": {func(c *Config) { c.SSH[slices.Index(c.SSH, "-i")+1] = stranger.File }, []string{"Permission denied", "255"}},
		"refused":     {func(c *Config) { c.Port = "1" }, []string{"Connection refused", "255"}},
		"host key": {func(c *Config) { c.SSH = slices.Insert(c.SSH, 1, "-o", "HostKeyAlias=unknown") },
			[]string{"Host key verification failed"}},
		"no program": {func(c *Config) { c.SSH = []string{"/no/such/ssh"} }, []string{"/no/such/ssh", "option ssh"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := good
			cfg.SSH = slices.Clone(good.SSH)
			tt.change(&cfg)
			_, err := dial(t, cfg).Start(t.Context())
			wantError(t, err, KindProgram, false, tt.words...)
		})
	}
	t.Run("lost after success", func(t *testing.T) {
		start(t, dial(t, good))
		s.Stop()
		_, err := dial(t, good).Start(t.Context())
		wantError(t, err, KindProgram, true, "Connection refused")
	})
}

func TestSSHProgram_Words(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{Host: "h", SSH: []string{"ssh"}}, "ssh|--|h|CMD"},
		{Config{Host: "h", User: "u", Port: "2222", SSH: []string{"my ssh", "-i", "a b"}}, "my ssh|-i|a b|-p|2222|-l|u|--|h|CMD"},
		{Config{Host: "::1", SSH: []string{"ssh"}}, "ssh|--|::1|CMD"},
	} {
		if got := strings.Join(newSSHProgram(tt.cfg).argv("CMD"), "|"); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

// A child that ignores the end of its input is cut off.
func TestProgram_Stubborn(t *testing.T) {
	harness.Goroutines(t)
	dir, _ := home(t)
	d := newDeployer(Config{Host: Localhost}, newLocalShell(Config{Host: Localhost}))
	defer d.Close()
	withHelper(d, strings.Replace(fakeHelper, "exec cat", "trap : 15; echo $$ >$HOME/pid; while :; do sleep 1; done", 1))
	stream, err := d.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if !stream.proc.wait(2*time.Second) || time.Since(begin) > 5*time.Second {
		t.Errorf("closing took %v", time.Since(begin))
	}
	pid := strings.TrimSpace(read(t, filepath.Join(dir, "pid")))
	if err := exec.Command("kill", "-0", pid).Run(); err == nil {
		t.Errorf("process %s is still there", pid)
	}
}

func TestDial_LocalSudo(t *testing.T) {
	require.Need(t, require.Sudo)
	dir, _ := home(t)
	d := dial(t, Config{Host: Localhost, Sudo: true})
	start(t, d)
	if files := stored(t, dir+"/.cache"); len(files) != 1 {
		t.Errorf("stored %v", files)
	}
	helper := filepath.Join(dir, "my helper")
	if err := os.WriteFile(helper, []byte(fakeHelper), 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, dial(t, Config{Host: Localhost, Sudo: true, HelperPath: helper}))
}

// fakeSudo puts a sudo of our own first in PATH; it logs its arguments.
func fakeSudo(t *testing.T, script string) (log string) {
	t.Helper()
	bin := t.TempDir()
	log = filepath.Join(bin, "log")
	text := "#!/bin/sh\nprintf '%s\\n' \"$*\" >>" + log + "\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(bin, "sudo"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return log
}

func TestDeployer_Start_Sudo(t *testing.T) {
	home(t)
	log := fakeSudo(t, `shift 2; exec "$@"`)
	d := shellConn(t, Config{Sudo: true}, "/bin/sh")
	withHelper(d, fakeHelper)
	start(t, d)
	if text := read(t, log); !strings.HasPrefix(text, "-n -- /") || !strings.HasSuffix(text, " serve\n") {
		t.Errorf("sudo was called with %q", text)
	}
}

func TestDeployer_Start_SudoPassword(t *testing.T) {
	dir, _ := home(t)
	fakeSudo(t, `echo "sudo: a password is required" >&2; exit 1`)
	d := shellConn(t, Config{Sudo: true, User: "alice"}, "/bin/sh")
	withHelper(d, fakeHelper)
	_, err := d.Start(t.Context())
	wantError(t, err, KindSudo, false, "testhost", "a password is required", "NOPASSWD", "alice", "log in as root")
	helper := write(t, filepath.Join(dir, "h"), fakeHelper)
	_, err = shellConn(t, Config{Sudo: true, HelperPath: helper}, "/bin/sh").Start(t.Context())
	wantError(t, err, KindSudo, false, "a password is required")
}

func TestDeployer_Start_NoAnswer(t *testing.T) {
	harness.Goroutines(t)
	home(t)
	d := shellConn(t, Config{HelperPath: "sleep 30; echo"}, "/bin/sh", "-c", "exec sleep 30")
	d.timeout = 100 * time.Millisecond
	_, err := d.Start(t.Context())
	wantError(t, err, KindTimeout, true, "in time", "login scripts")
}
