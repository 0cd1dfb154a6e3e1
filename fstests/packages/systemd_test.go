package packages

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// sshdConfig is that of the host of the jobs, which is the same machine: what a login does is not limited by the unit.
const sshdConfig = `ListenAddress 127.0.0.1
HostKey /root/host_key
AuthorizedKeysFile /root/authorized_keys
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin yes
`

const mib = 1 << 20

// TestSystemd installs the package while systemd runs, and has it run jobs: by hand, by a timer, stopped in the middle.
// What the unit takes away from a job is taken away here.
func TestSystemd(t *testing.T) {
	require.Need(t, require.Root, require.Overlay, require.Stage, require.Dpkg, require.Systemd, require.Sshd, require.Loop)
	deb := build(t, "deb", "deb")
	source, target := harness.Loop(t, 8*mib), harness.Loop(t, 8*mib)
	m := newMachine(t)
	m.add(t, deb, "/srv/package.deb")
	m.boot(t)
	m.run(t, "dpkg", "--force-unsafe-io", "-i", "/srv/package.deb")
	if said := m.run(t, "systemctl", "list-unit-files", "--no-legend", "rclone-blockdev-sync@*"); strings.Count(said, "\n") != 2 {
		t.Errorf("systemd knows of %q", said)
	}
	m.host(t)
	m.shell(t, `mkdir /srv/images /home/images; head -c 5M /dev/urandom >`+source.Path)

	t.Run("Pull", func(t *testing.T) { m.pull(t, source.Path) })
	t.Run("Push", func(t *testing.T) { m.push(t, source.Path, target.Path) })
	t.Run("Failure", m.failure)
	t.Run("Timer", func(t *testing.T) { m.timer(t, source.Path) })
	t.Run("Stop", m.stopped)
}

// host lets root log in to this machine from itself, with the key and the known hosts of root.
func (m *machine) host(t *testing.T) {
	t.Helper()
	client, host := harness.NewKey(t, t.TempDir(), "client", ""), harness.NewKey(t, t.TempDir(), "host", "")
	m.shell(t, "mkdir -p -m 700 /root/.ssh /run/sshd")
	for path, key := range map[string]*harness.Key{"/root/.ssh/id_ed25519": client, "/root/host_key": host} {
		text, err := os.ReadFile(key.File)
		if err != nil {
			t.Fatal(err)
		}
		m.write(t, path, string(text))
		m.run(t, "chmod", "600", path)
	}
	m.write(t, "/root/.ssh/known_hosts", knownhosts.Line([]string{"127.0.0.1"}, host.Public)+"\n")
	m.write(t, "/root/authorized_keys", client.Line+"\n")
	m.write(t, "/root/sshd_config", sshdConfig)
	m.shell(t, "systemd-run --quiet --unit=host-of-jobs $(command -v sshd) -D -e -f /root/sshd_config")
	m.until(t, "sshd listens", func() bool {
		_, err := m.try("bash", "-c", "</dev/tcp/127.0.0.1/22")
		return err == nil
	})
}

// write writes a file there.
func (m *machine) write(t *testing.T, path, text string) {
	t.Helper()
	m.run(t, "sh", "-c", `printf %s "$2" >"$1"`, "sh", path, text)
}

// job writes the configuration of a job.
func (m *machine) job(t *testing.T, name string, lines ...string) {
	t.Helper()
	m.write(t, "/etc/rclone-blockdev/"+name+".conf", strings.Join(lines, "\n")+"\n")
}

// unit is the name of the service of a job.
func unit(job string) string { return "rclone-blockdev-sync@" + job + ".service" }

// journal is what the program said in all runs of a job.
func (m *machine) journal(t *testing.T, job string) string {
	t.Helper()
	m.run(t, "journalctl", "--sync")
	return m.run(t, "journalctl", "--quiet", "--output=cat", "--unit="+unit(job), "--identifier=rclone-blockdev")
}

// state is what systemd knows of the last run of a job.
func (m *machine) state(t *testing.T, job string) string {
	t.Helper()
	said := m.run(t, "systemctl", "show", "--property=ActiveState,Result,ExecMainStatus", unit(job))
	return strings.Join(strings.Fields(said), " ")
}

// done is the state after a success.
const done = "Result=success ExecMainStatus=0 ActiveState=inactive"

// pull copies a device of a host to an image in a home, with a key and a known host of root's.
func (m *machine) pull(t *testing.T, source string) {
	m.job(t, "pull", "SRC=root@127.0.0.1:"+source, `DST="/home/images/a disk.img"`, `OPTIONS="--truncate --block-size '64Ki'"`)
	m.run(t, "systemctl", "start", unit("pull"))
	m.run(t, "cmp", source, "/home/images/a disk.img")
	if said := m.state(t, "pull"); said != done {
		t.Errorf("the unit is %s", said)
	}
	if said, err := m.try("systemctl", "is-failed", unit("pull")); err == nil || strings.TrimSpace(said) != "inactive" {
		t.Errorf("is-failed says %q, %v", said, err)
	}
	if said := m.journal(t, "pull"); !strings.HasPrefix(said, "root@127.0.0.1:"+source+" (device, 8Mi") || !strings.Contains(said, "\nscanned 8Mi, ") {
		t.Errorf("the journal has %s", said)
	}
}

// push copies an image to a device of this machine, which it remembers beside the configuration of rclone and whose
// content it keeps, and a device to an image of a host.
func (m *machine) push(t *testing.T, source, target string) {
	m.shell(t, "head -c 8M /dev/urandom >/srv/images/disk.img")
	m.job(t, "push", "SRC=/srv/images/disk.img", "DST="+target, "RCLONE_BLOCKDEV_PIN_IDS=true", "RCLONE_BLOCKDEV_UNDO=/srv/undo")
	m.run(t, "mkdir", "-m", "700", "/srv/undo")
	m.run(t, "systemctl", "start", unit("push"))
	m.run(t, "cmp", "/srv/images/disk.img", target)
	if said := m.shell(t, "ls /root/.config/rclone/blockdev-pins/*.json /srv/undo/*.undo"); strings.Count(said, "\n") != 2 {
		t.Errorf("it leaves %s", said)
	}
	m.job(t, "back", "SRC="+source, "DST=root@127.0.0.1:/srv/images/back.img", "OPTIONS=--truncate")
	m.run(t, "systemctl", "start", unit("back"))
	m.run(t, "cmp", source, "/srv/images/back.img")
}

// failure is a job that cannot work.
func (m *machine) failure(t *testing.T) {
	m.job(t, "failing", "SRC=root@127.0.0.1:/srv/images/missing.img", "DST=/srv/images/target.img", "OPTIONS=--truncate")
	if out, err := m.try("systemctl", "start", unit("failing")); err == nil {
		t.Fatalf("without its source the job succeeds: %s", out)
	}
	if said := m.state(t, "failing"); said != "Result=exit-code ExecMainStatus=4 ActiveState=failed" {
		t.Errorf("the unit is %s", said)
	}
	if said := strings.TrimSpace(m.run(t, "systemctl", "is-failed", unit("failing"))); said != "failed" {
		t.Errorf("is-failed says %q", said)
	}
	if said := m.run(t, "systemctl", "--failed", "--no-legend", "--plain"); !strings.HasPrefix(said, unit("failing")) {
		t.Errorf("--failed says %q", said)
	}
	const want = "NOTICE: Failed to blocksync: the source root@127.0.0.1:/srv/images/missing.img does not exist\n"
	if said := m.journal(t, "failing"); said != want {
		t.Errorf("the journal has %q, want %q", said, want)
	}
	m.run(t, "systemctl", "reset-failed", unit("failing"))
}

// timer enables the timer, and has it run the job at other times.
func (m *machine) timer(t *testing.T, source string) {
	const timer = "rclone-blockdev-sync@timed.timer"
	m.job(t, "timed", "SRC="+source, "DST=/srv/images/timed.img", "OPTIONS=--truncate")
	m.run(t, "systemctl", "enable", "--now", timer)
	if said := strings.TrimSpace(m.run(t, "systemctl", "is-enabled", timer)); said != "enabled" {
		t.Errorf("the timer is %s", said)
	}
	row := regexp.MustCompile(`^\w{3} \d{4}-\d\d-\d\d 0[01]:\d\d:\d\d .* ` + regexp.QuoteMeta(timer) + ` +` + regexp.QuoteMeta(unit("timed")) + `\n$`)
	if said := m.run(t, "systemctl", "list-timers", "--no-legend", "rclone-blockdev-sync@*"); !row.MatchString(said) {
		t.Errorf("list-timers says %q", said)
	}
	m.shell(t, "mkdir /etc/systemd/system/"+timer+".d")
	m.write(t, "/etc/systemd/system/"+timer+".d/override.conf", "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/3\nRandomizedDelaySec=0\nAccuracySec=1us\n")
	m.run(t, "systemctl", "daemon-reload")
	m.run(t, "systemctl", "restart", timer)
	m.until(t, "the timer has run the job", func() bool { return strings.Contains(m.journal(t, "timed"), "scanned 8Mi") })
	m.run(t, "systemctl", "disable", "--now", timer)
	m.until(t, "the last run ends", func() bool { return m.state(t, "timed") == done })
	m.run(t, "cmp", source, "/srv/images/timed.img")
}

// stopped stops jobs in the middle, one that makes an image and one that changes a target, and starts them again.
func (m *machine) stopped(t *testing.T) {
	m.shell(t, "head -c 32M /dev/urandom >/srv/images/large.img; head -c 32M /dev/urandom >/srv/images/old.img")
	for name, state := range map[string]string{"new": "not there yet", "old": "partly updated"} {
		path := "/srv/images/" + name + ".img"
		config := []string{"SRC=/srv/images/large.img", "DST=root@127.0.0.1:" + path, "OPTIONS=--truncate"}
		m.job(t, name, append(config, "RCLONE_BWLIMIT=2M")...)
		m.run(t, "systemctl", "start", "--no-block", unit(name))
		m.until(t, "something was sent", m.sends)
		m.run(t, "systemctl", "start", "--no-block", unit(name)) // joins
		m.run(t, "systemctl", "stop", unit(name))
		if said := m.state(t, name); said != "Result=exit-code ExecMainStatus=143 ActiveState=failed" {
			t.Errorf("%s: stopped, the unit is %s", name, said)
		}
		want := "\nERROR : " + name + ".img: interrupted: the target is " + state + "; the same command completes it\n"
		if said := m.journal(t, name); !strings.HasSuffix(said, want) {
			t.Errorf("%s: stopped, the journal has %s", name, said)
		}
		if left := m.shell(t, "cd /srv/images; ls -A | grep new || true"); left != "" && name == "new" {
			t.Errorf("%s: stopped, it leaves %s", name, left)
		}
		m.until(t, "the helper ends", func() bool {
			_, err := m.try("pgrep", "-f", "blockdev-helper|rclone-blockdev")
			return err != nil
		})
		m.job(t, name, config...)
		m.run(t, "systemctl", "start", unit(name))
		m.run(t, "cmp", "/srv/images/large.img", path)
		if left := m.shell(t, "cd /srv/images; ls -A | grep -e "+name+" -e partial"); left != name+".img\n" {
			t.Errorf("%s: complete, it leaves %s", name, left)
		}
	}
}

// sends tells whether the program has sent a part of what it copies.
func (m *machine) sends() bool {
	said, err := m.try("sh", "-c", `awk '/^wchar:/ { print $2 }' /proc/$(pgrep -x rclone-blockdev)/io`)
	var n int
	_, _ = fmt.Sscan(said, &n) // 0 before it starts
	return err == nil && n > 4*mib
}
