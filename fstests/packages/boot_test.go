package packages

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outside makes a control group for the machine, starts it there, and takes both down when the test closes the input,
// or is gone. Groups outlive the processes in them, so somebody outside has to remove them.
const outside = `set -e
cd "$1"
mount -t cgroup2 none groups
group=$PWD/groups/blockdev-packages-$$
mkdir "$group"
sh -c 'echo $$ >"$0/cgroup.procs"; exec unshare --mount --propagation private --pid --fork --kill-child=KILL --cgroup --uts --ipc --net \
	sh -c "$1" sh "$2"' "$group" "$2" "$3" &
echo $!
cat >/dev/null
kill -KILL $! || true
wait $! || true
until find "$group" -depth -type d -exec rmdir {} +; do sleep 0.1; done
`

// boot is what comes before the first process. systemd finds itself in a container as systemd.io/CONTAINER_INTERFACE
// has it: what belongs to the kernel cannot be written, so that it changes nothing of this machine; /dev and the homes are
// its own, and what this machine starts is not for it.
const boot = `set -e
cd "$1"
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work none root
cd root
rm -rf etc/systemd/system/*.wants
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs -o mode=755 none dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 none dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 none dev/shm
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty dev
for number in $(seq 0 127); do mknod -m 660 dev/loop$number b 7 $number; done
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 none run
mount -t tmpfs -o mode=1777 none tmp
mount -t tmpfs -o mode=700 none root
mount -t tmpfs none home
ip link set lo up
hostname backup
exec chroot . /usr/bin/env -i container=test /lib/systemd/systemd --system --unit=sysinit.target
`

// masked are units of this machine that its copy shall not have, if they are there.
var masked = []string{
	"systemd-modules-load.service", "systemd-binfmt.service", "systemd-udevd.service", "systemd-udev-trigger.service", "systemd-sysctl.service",
	"systemd-journald-audit.socket", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "lvm2-monitor.service",
}

// boot starts systemd in the machine, without the services of this one. What runs there by run and its like runs
// beside it from then on.
func (m *machine) boot(t *testing.T) {
	t.Helper()
	for _, name := range masked {
		if err := os.MkdirAll(m.path("upper/etc/systemd/system"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/dev/null", m.path("upper/etc/systemd/system/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(m.path("upper/etc/fstab"), nil, 0o644); err != nil { // its disks are not ours
		t.Fatal(err)
	}
	if err := os.Mkdir(m.path("groups"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", outside, "sh", m.dir, boot, m.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // an interrupt of the test is not for it: the end of its input is
	var said strings.Builder
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the end of the machine: %v: %s", err, said.String())
		}
	})
	var parent int
	if _, err := fmt.Fscan(stdout, &parent); err != nil {
		t.Fatalf("the machine does not start: %v", err)
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	m.first = firstChild(t, parent)
	m.until(t, "systemd runs", func() bool { // before, its root is that of this machine
		name, _ := os.ReadFile("/proc/" + m.first + "/comm") // the next line reports it if it is gone
		return string(name) == "systemd\n"
	})
	m.until(t, "the machine is up", func() bool {
		out, _ := m.try("systemctl", "is-system-running") // fails until it runs
		return strings.TrimSpace(out) == "running"
	})
}

// firstChild is the only child of a process, as soon as it is there.
func firstChild(t *testing.T, parent int) string {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", parent))
		if err != nil {
			t.Fatal(err)
		}
		if child := strings.TrimSpace(string(text)); child != "" {
			return child
		}
	}
	t.Fatal("the machine has no first process")
	return ""
}

// patience is how long something may take where much else runs.
const patience = 2 * time.Minute

// until waits for something.
func (m *machine) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			out, err := m.try("sh", "-c", "systemctl list-jobs; systemctl --failed; journalctl -n 50 --no-pager")
			t.Fatalf("it did not come that %s: %v\n%s", what, err, out)
		}
	}
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }
