package fstests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// option is what this needs of "config providers".
type option struct {
	Name       string
	Hide       int
	Advanced   bool
	IsPassword bool
}

// typedAnswers are the lines that a person types at the questions about options.
func typedAnswers(t *testing.T, c *harness.Client, values map[string]string) (lines []string) {
	t.Helper()
	var providers []struct {
		Name    string
		Options []option
	}
	if err := json.Unmarshal([]byte(c.Run(t, "config", "providers").Stdout), &providers); err != nil {
		t.Fatal(err)
	}
	for _, p := range providers {
		for _, o := range p.Options {
			if p.Name == "blockdev" && !o.Advanced && o.Hide == 0 {
				lines = append(lines, values[o.Name])
			}
		}
	}
	return lines
}

// The whole dialogue of "rclone config": a new remote with all its questions.
func TestWizard_Dialogue(t *testing.T) {
	server := harness.Sshd(t)
	c := harness.NewClient(t)
	answers := []string{"n", "disks", "blockdev"}
	answers = append(answers, typedAnswers(t, c, map[string]string{
		"host": server.Host, "port": strconv.Itoa(server.Port), "user": server.User, "key_file": server.KeyFile})...)
	answers = append(answers, "n", // advanced options
		"", // test the connection: yes
		"y", "y", "q")
	cmd := c.Command(t.Context(), "config")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(strings.Join(answers, "\n")+"\n"), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout.String(), stderr.String())
	}
	for _, want := range []string{"Test the connection?", "Trust this host key?", `Keep this "disks" remote?`} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("%q was not asked:\n%s", want, stdout.String())
		}
	}
	if !strings.Contains(stderr.String(), "the connection works: logged in to "+server.Host) {
		t.Error(stderr.String())
	}
	pinned, err := os.ReadFile(filepath.Join(c.Home, ".ssh", "known_hosts"))
	right, _ := os.ReadFile(server.KnownHosts)
	if err != nil || !bytes.Equal(pinned, right) {
		t.Errorf("known_hosts is %q, want %q; %v", pinned, right, err)
	}
	if r := c.Run(t, "lsf", "disks:/dev"); r.Code != 0 {
		t.Error(r.Stderr)
	}
}

// out is a step of "config create --non-interactive".
type out struct {
	State, Error string
	Option       *struct{ Name, Help, DefaultStr string }
}

func step(t *testing.T, c *harness.Client, args ...string) (out, harness.Result) {
	t.Helper()
	r := c.Run(t, append([]string{"config", "create", "disks", "blockdev"}, args...)...)
	var o out
	if err := json.Unmarshal([]byte(r.Stdout), &o); err != nil || r.Code != 0 {
		t.Fatalf("%v, code %d\n%s%s", err, r.Code, r.Stdout, r.Stderr)
	}
	return o, r
}

var sudoersLine = regexp.MustCompile(`sudoers line: "([^"]+)"`)

// nobody is a user who is not root, with a sudoers file that only the programs run by the command as see.
type nobody struct {
	home, sudoers, as string
}

func newNobody(t *testing.T) nobody {
	t.Helper()
	require.Need(t, require.Root, require.Sudo, require.Mount)
	dir, err := os.MkdirTemp("", "wizard") // t.TempDir lets nobody else in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := nobody{home: filepath.Join(dir, "home"), sudoers: filepath.Join(dir, "sudoers")}
	login := filepath.Join(dir, "login")
	n.as = "unshare -m " + login
	const id = 65534
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.Mkdir(n.home, 0o700), os.Chown(n.home, id, id),
		os.WriteFile(n.sudoers, []byte("root ALL=(ALL:ALL) ALL\n"), 0o440),
		os.WriteFile(login, fmt.Appendf(nil, `#!/bin/sh
mount --bind %s /etc/sudoers && HOME=%s exec setpriv --reuid=%d --regid=%[3]d --clear-groups "$@"
`, n.sudoers, n.home, id), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// A user who is not root is asked about sudo, which is tested; where it wants a password, the line that is shown
// is the one that helps, to the real sudo.
func TestWizard_Sudo(t *testing.T) {
	require.Need(t, require.Sshd)
	user := newNobody(t)
	server := harness.Sshd(t, harness.SshdConfig("ForceCommand "+user.as+` sh -c "$SSH_ORIGINAL_COMMAND"`))
	c := harness.NewClient(t)
	asked, _ := step(t, c, "host="+server.Host, "port="+strconv.Itoa(server.Port), "key_file="+server.KeyFile,
		"known_hosts_file="+server.KnownHosts, "--non-interactive", "config_test=true")
	if asked.Option == nil || asked.Option.Name != "config_use_sudo" || asked.Option.DefaultStr != "false" ||
		!strings.Contains(asked.Option.Help, "The user nobody logs in") {
		t.Fatalf("got %+v", asked)
	}
	// No leaves it off.
	if end, _ := step(t, c, "--continue", "--state", asked.State, "--result", "false"); end.State != "" {
		t.Errorf("got %+v", end)
	}
	refused, _ := step(t, c, "--continue", "--state", asked.State, "--result", "true")
	line := sudoersLine.FindStringSubmatch(refused.Error)
	if line == nil || line[1] != "nobody ALL=(root) NOPASSWD: ALL" || refused.Option.DefaultStr != "false" {
		t.Fatalf("got %+v", refused)
	}
	if r := c.Run(t, "config", "show", "disks"); strings.Contains(r.Stdout, "sudo") {
		t.Errorf("sudo is set although it does not work:\n%s", r.Stdout)
	}
	if err := os.WriteFile(user.sudoers, []byte(line[1]+"\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	end, r := step(t, c, "--continue", "--state", asked.State, "--result", "true")
	if end.State != "" || !strings.Contains(r.Stderr, "run as root by sudo") {
		t.Errorf("got %+v\n%s", end, r.Stderr)
	}
	if r := c.Run(t, "config", "show", "disks"); !strings.Contains(r.Stdout, "sudo = true") {
		t.Errorf("sudo is not set:\n%s", r.Stdout)
	}
	// Root it is: only root may list this directory.
	if r := c.Run(t, "lsf", "disks:"+filepath.Dir(server.KeyFile)); !strings.Contains(r.Stdout, "client\n") {
		t.Errorf("%s%s", r.Stdout, r.Stderr)
	}
}

// This machine with sudo is tested too, and the line that is shown names the user who runs the program.
func TestWizard_SudoHere(t *testing.T) {
	user := newNobody(t)
	dir := filepath.Dir(user.home)
	bin, program := filepath.Join(dir, "rclone"), filepath.Join(dir, "rclone-blockdev")
	text, err := os.ReadFile(harness.Bin(t, "rclone-blockdev")) // where it is, nobody may not look
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.WriteFile(program, text, 0o755),
		os.MkdirAll(filepath.Join(dir, "locked", "by-root"), 0o700),
		os.WriteFile(bin, []byte("#!/bin/sh\nexec "+user.as+" "+program+` "$@"`+"\n"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c := &harness.Client{Bin: bin, Home: user.home, Dir: "/", Config: filepath.Join(user.home, "rclone.conf")}
	asked, _ := step(t, c, "host=localhost", "sudo=true", "--non-interactive")
	if asked.Option == nil || asked.Option.Name != "config_test" || !strings.Contains(asked.Option.Help, "Test sudo?") {
		t.Fatalf("got %+v", asked)
	}
	refused, _ := step(t, c, "--continue", "--state", asked.State, "--result", "true")
	line := sudoersLine.FindStringSubmatch(refused.Error)
	if line == nil || line[1] != "nobody ALL=(root) NOPASSWD: ALL" || refused.Option.Name != "config_keep" {
		t.Fatalf("got %+v", refused)
	}
	for _, want := range []string{"password is required", `with "visudo" on this machine`, `"config reconnect disks:"`} {
		if !strings.Contains(refused.Error, want) {
			t.Errorf("%q does not say %q", refused.Error, want)
		}
	}
	if err := os.WriteFile(user.sudoers, []byte(line[1]+"\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	end, r := step(t, c, "--continue", "--state", asked.State, "--result", "true")
	if end.State != "" || !strings.Contains(r.Stderr, "sudo works: the helper runs as root on this machine") {
		t.Errorf("got %+v\n%s", end, r.Stderr)
	}
	if r := c.Run(t, "lsf", "disks:"+filepath.Join(dir, "locked")); r.Stdout != "by-root/\n" {
		t.Errorf("%s%s", r.Stdout, r.Stderr)
	}
}
