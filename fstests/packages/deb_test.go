package packages

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

const (
	job     = "/etc/rclone-blockdev/mail.conf"
	service = "/usr/lib/systemd/system/rclone-blockdev-sync@.service"
	timer   = "/usr/lib/systemd/system/rclone-blockdev-sync@.timer"
)

// TestDeb does with the package what its user does: install it, use each of its parts, remove it.
func TestDeb(t *testing.T) {
	require.Need(t, require.Root, require.Overlay, require.Dpkg, require.Man, require.Systemd, require.BashCompletion, require.Zsh, require.Fish)
	deb := build(t, "deb", "deb")
	m := newMachine(t)
	m.add(t, deb, "/root/package.deb")
	before := m.changed(t)

	// Small images of Debian leave pages out by a setting of dpkg. The package has them all the same.
	m.run(t, "dpkg", "--force-unsafe-io", "--path-include=*", "-i", "/root/package.deb")
	if said := m.run(t, "dpkg", "--verify", "rclone-blockdev"); said != "" {
		t.Errorf("dpkg finds: %s", said)
	}
	for name, path := range harness.Packaged { // so the machine of fstests/pages is one with the package
		want, err := os.ReadFile(filepath.Join(root(t), "cmd/rclone-blockdev/package", name))
		if err != nil {
			t.Fatal(err)
		}
		if m.run(t, "cat", path) != string(want) {
			t.Errorf("the package has another %s", path)
		}
	}
	t.Run("versions", func(t *testing.T) {
		if said := m.run(t, "rclone-blockdev", "version"); !strings.Contains(said, "\n- blockdev/version: ") {
			t.Errorf("rclone-blockdev says %q", said)
		}
		if said := m.run(t, "blockdev-helper", "version"); !strings.HasPrefix(said, "blockdev-helper ") {
			t.Errorf("blockdev-helper says %q", said)
		}
	})
	t.Run("copy", func(t *testing.T) {
		m.shell(t, `mkdir /srv/images && cd /srv/images && head -c 5M /dev/urandom >a.img && truncate -s 8M a.img
			rclone-blockdev blocksync --truncate a.img b.img && cmp a.img b.img && blockdev-helper compare a.img b.img`)
	})
	t.Run("manual", func(t *testing.T) {
		for _, page := range [][2]string{{"7", "rclone-blockdev"}, {"1", "rclone-blockdev-blocksync"}, {"1", "blockdev-helper"}} {
			want := "/usr/share/man/man" + page[0] + "/" + page[1] + "." + page[0] + ".gz"
			if found := strings.TrimSpace(m.run(t, "man", "-w", page[0], page[1])); found != want {
				t.Errorf("man finds %s, want %s", found, want)
			}
			if text := m.run(t, "man", page[0], page[1]); !strings.Contains(text, "SEE ALSO") {
				t.Errorf("%s says: %.200s", page[1], text)
			}
		}
	})
	t.Run("completion", func(t *testing.T) { completion(t, m) })
	t.Run("units", func(t *testing.T) { units(t, m) })

	m.shell(t, "rm -r /srv/images")
	m.run(t, "dpkg", "--force-unsafe-io", "--remove", "rclone-blockdev")
	m.run(t, "dpkg", "--force-unsafe-io", "--purge", "rclone-blockdev")
	left := slices.DeleteFunc(m.changed(t), func(name string) bool { return slices.Contains(before, name) })
	if want := []string{"/etc/rclone-blockdev", job}; !slices.Equal(left, want) {
		t.Errorf("removed, it leaves %q, want %q", left, want)
	}
}

func completion(t *testing.T, m *machine) {
	got := m.shell(t, `set +eu; . /usr/share/bash-completion/bash_completion
		_completion_loader rclone-blockdev; complete -p rclone-blockdev
		COMP_WORDS=(rclone-blockdev blocksy) COMP_CWORD=1 COMP_LINE="rclone-blockdev blocksy" COMP_POINT=23 COMP_TYPE=9
		__start_rclone-blockdev; echo "${COMPREPLY[@]}"`)
	if !strings.Contains(got, "__start_rclone-blockdev rclone-blockdev\n") || !strings.HasSuffix(strings.TrimSpace(got), "blocksync") {
		t.Errorf("bash completes %q", got)
	}
	if got := m.shell(t, `fish --no-execute /usr/share/fish/vendor_completions.d/rclone-blockdev.fish
		HOME=/tmp fish -c 'complete -C "rclone-blockdev blocksy"'`); !strings.HasPrefix(got, "blocksync\t") {
		t.Errorf("fish completes %q", got)
	}
	got = m.run(t, "zsh", "-fc", "fpath=(/usr/share/zsh/vendor-completions $fpath); autoload -U compinit; compinit -D; echo $_comps[rclone-blockdev]")
	if strings.TrimSpace(got) != "_rclone-blockdev" {
		t.Errorf("zsh knows %q", got)
	}
}

// units checks what systemd thinks of the units, and runs a job as systemd would, which TestSystemd has do it.
func units(t *testing.T, m *machine) {
	if said := m.run(t, "systemd-analyze", "verify", "rclone-blockdev-sync@mail.timer", "rclone-blockdev-sync@mail.service"); said != "" {
		t.Errorf("systemd-analyze says %s", said)
	}
	broken := "sed s/^Type=.*/Type=onesoht/ " + service + " >/tmp/broken@.service; systemd-analyze verify --man=no /tmp/broken@a.service 2>&1"
	if said := m.shell(t, broken+" || true"); !strings.Contains(said, "onesoht") {
		t.Errorf("systemd-analyze is content with a type that does not exist: %s", said)
	}
	m.shell(t, `cd /usr/share/doc/rclone-blockdev; sed -e 's|^SRC=.*|SRC="/srv/images/a b.img"|' -e 's|^DST=.*|DST=/srv/images/job.img|' \
		-e 's|^OPTIONS=.*|OPTIONS="--truncate --block-size '"'64Ki'"'"|' examples/job.conf >`+job+`
		cd /srv/images; cp a.img "a b.img"`)
	unit := m.run(t, "cat", service)
	for _, want := range []string{"Type=oneshot", "User=root"} {
		if !strings.Contains(unit, "\n"+want+"\n") {
			t.Errorf("the unit lacks %s", want)
		}
	}
	if out, err := m.start(t, unit, "mail"); err != nil || !strings.Contains(out, "scanned 8Mi") {
		t.Errorf("the job says %q, %v", out, err)
	}
	m.shell(t, `cd /srv/images; cmp "a b.img" job.img; rm "a b.img"`)
	if out, err := m.start(t, unit, "mail"); err == nil {
		t.Errorf("without its source the job succeeds: %s", out)
	}
	if out := m.run(t, "cat", timer); !regexp.MustCompile(`(?m)^RandomizedDelaySec=\d`).MatchString(out) {
		t.Errorf("the timer has no random delay: %s", out)
	}
}

// start runs the command of a unit with the environment that the unit gives it, by the rules of systemd.exec(5) and
// systemd.service(5) as far as the unit uses them: $NAME is words, ${NAME} is part of one.
func (m *machine) start(t *testing.T, unit, instance string) (string, error) {
	t.Helper()
	file := value(t, strings.ReplaceAll(unit, "%i", instance), "EnvironmentFile")
	given := map[string]string{}
	for line := range strings.Lines(m.run(t, "cat", file)) {
		name, text, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(name, "#") {
			given[name] = strings.Trim(text, `"`)
		}
	}
	var args []string
	for _, word := range strings.Fields(value(t, unit, "ExecStart")) {
		if name, ok := strings.CutPrefix(word, "$"); ok && !strings.HasPrefix(name, "{") {
			for _, part := range strings.Fields(given[name]) {
				args = append(args, strings.Trim(part, `'"`))
			}
			continue
		}
		args = append(args, regexp.MustCompile(`\$\{\w+\}`).ReplaceAllStringFunc(word, func(s string) string { return given[s[2:len(s)-1]] }))
	}
	command := []string{"env", "-i", "HOME=/root", "USER=root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	for name, text := range given {
		command = append(command, name+"="+text)
	}
	return m.try(append(command, args...)...)
}

// value is the only setting of a name in a unit.
func value(t *testing.T, unit, name string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllStringSubmatch(unit, -1)
	if len(found) != 1 {
		t.Fatalf("the unit has %d lines %s=", len(found), name)
	}
	return found[0][1]
}

// explained are the tags of lintian that follow from how the package of a test is made: a release is built without cgo,
// and compressed.
var explained = []string{
	"hardening-no-pie [usr/bin/rclone-blockdev]",
	"undeclared-elf-prerequisites (libc.so.6) [usr/bin/rclone-blockdev]",
	"uses-no-compression-for-data-tarball",
}

func TestDeb_Lintian(t *testing.T) {
	require.Need(t, require.Dpkg, require.Lintian)
	deb := build(t, "deb", "deb")
	said, err := output("/", nil, "lintian", "--allow-root", "--no-cfg", "--tag-display-limit", "0", "--fail-on", "none", deb)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^[EW]: [^:]+: (.*)$`).FindAllStringSubmatch(said, -1) {
		if !slices.Contains(explained, m[1]) {
			t.Error(m[0])
		}
	}
}
