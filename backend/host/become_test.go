package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// onlyPrograms makes a PATH of what the start scripts need, and one more program of our own.
func onlyPrograms(t *testing.T, name, script string) (log string) {
	t.Helper()
	bin := t.TempDir()
	for _, tool := range []string{"sh", "uname", "id", "chmod", "sha256sum", "cat", "mkdir", "wc", "rm", "mv", "find"} {
		path, err := exec.LookPath(tool)
		if err == nil {
			err = os.Symlink(path, filepath.Join(bin, tool))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if log = filepath.Join(bin, "log"); name != "" {
		text := "#!/bin/sh\nprintf '%s\\n' \"$*\" >>" + log + "\n" + script + "\n"
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	return log
}

// Where there is no sudo, doas does it, for helpers that were uploaded and for installed ones.
func TestDeployer_Start_Doas(t *testing.T) {
	dir, _ := home(t)
	helper := filepath.Join(dir, "my helper")
	if err := os.WriteFile(helper, []byte(fakeHelper), 0o755); err != nil {
		t.Fatal(err)
	}
	log := onlyPrograms(t, "doas", `shift 2; exec "$@"`)
	for _, cfg := range []Config{{Sudo: true}, {Sudo: true, HelperPath: helper}, {Sudo: true, HelperPath: "~/my helper"}} {
		d := shellConn(t, cfg, "/bin/sh")
		withHelper(d, fakeHelper)
		start(t, d)
		if text := read(t, log); !strings.HasPrefix(text, "-n -- /") || !strings.HasSuffix(text, " serve\n") {
			t.Errorf("doas was called with %q", text)
		}
		if err := os.Remove(log); err != nil {
			t.Fatal(err)
		}
	}
}

// What is missing is named, with the line that allows it.
func TestDeployer_Start_NoRoot(t *testing.T) {
	home(t)
	onlyPrograms(t, "doas", `echo "doas: Authentication required" >&2; exit 1`)
	d := shellConn(t, Config{Sudo: true, User: "alice", HelperPath: "/usr/bin/helper"}, "/bin/sh")
	_, err := d.Start(t.Context())
	wantError(t, err, KindSudo, false, "doas: Authentication required", `"permit nopass alice as root cmd /usr/bin/helper args serve"`)
	onlyPrograms(t, "", "")
	d = shellConn(t, Config{Sudo: true, User: "alice"}, "/bin/sh")
	withHelper(d, fakeHelper)
	_, err = d.Start(t.Context())
	wantError(t, err, KindSudo, false, "neither sudo nor doas is installed", `"permit nopass alice as root"`)
}
