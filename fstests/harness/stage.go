package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// Here is the name, for a test, of the machine of a stage at which its user sits. It is the only one that has
// rclone-blockdev, as the package installs it, and calls itself "backup".
const Here = "here"

// Stage is a group of machines that can reach each other by name and ssh, and nothing else. They are this machine
// over again: each has its programs, and file systems, names and /dev of its own, which are thrown away. Network and
// processes are theirs together. Devices are loop devices of this machine, under other names.
type Stage struct {
	t        testing.TB
	init     *exec.Cmd // the first process: all others end with it
	machines map[string]*Machine
	hosts    []string // lines of /etc/hosts
	key      *Key     // of every user that may log in, and of every sshd
	once     sync.Once
}

// Packaged are files that the package installs beside the programs: from cmd/rclone-blockdev/package, and where to. The
// pages are tried with them; a test of the package compares.
var Packaged = map[string]string{
	"rclone-blockdev-sync@.service": "/usr/lib/systemd/system/rclone-blockdev-sync@.service",
	"rclone-blockdev-sync@.timer":   "/usr/lib/systemd/system/rclone-blockdev-sync@.timer",
	"job.conf.example":              "/usr/share/doc/rclone-blockdev/examples/job.conf",
}

// NewStage makes a stage with the machine Here. It ends with the test; Stop before that lets go of the devices before
// they are detached.
func NewStage(t testing.TB) *Stage {
	t.Helper()
	require.Need(t, require.Root, require.Sshd, require.SSH, require.Loop, require.Stage)
	s := &Stage{t: t, machines: map[string]*Machine{}, key: NewKey(t, t.TempDir(), "stage", "")}
	s.init = exec.Command("unshare", "--net", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", "echo; exec sleep infinity")
	started, err := s.init.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.init.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	if _, err := started.Read(make([]byte, 1)); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	here := s.Host(Here, Bin(t, "rclone-blockdev"), Bin(t, "blockdev-helper"))
	root, err := ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range Packaged {
		text, err := os.ReadFile(filepath.Join(root, "cmd/rclone-blockdev/package", name))
		if err != nil {
			t.Fatal(err)
		}
		here.File(path, string(text))
	}
	return s
}

// Machine returns the machine of that name, which must be there.
func (s *Stage) Machine(name string) *Machine {
	s.t.Helper()
	m := s.machines[name]
	if m == nil {
		s.t.Fatalf("there is no host %q", name)
	}
	return m
}

// Host adds a machine, with further programs in its /usr/bin. All but Here have an sshd, into which root of each
// machine can log in with its key.
func (s *Stage) Host(name string, programs ...string) *Machine {
	s.t.Helper()
	if s.machines[name] != nil {
		s.t.Fatalf("there is a host %q already", name)
	}
	m := s.start(name, programs)
	address := fmt.Sprintf("127.0.1.%d", len(s.machines)+1)
	s.machines[name] = m
	names := name
	if name == Here {
		names += " backup"
	}
	s.hosts = append(s.hosts, address+" "+names)
	private, err := os.ReadFile(s.key.File)
	if err != nil {
		s.t.Fatal(err)
	}
	m.must("chmod 700 /root && mkdir -m 700 /root/.ssh")
	m.File("/root/.ssh/id_ed25519", string(private))
	m.File("/root/.ssh/authorized_keys", s.key.Line+"\n")
	m.File("/etc/ssh/host_key", string(private))
	m.must("chmod 600 /root/.ssh/* /etc/ssh/host_key")
	if name != Here {
		m.File("/etc/ssh/sshd_config", strings.Join([]string{
			"ListenAddress " + address, "HostKey /etc/ssh/host_key", "UsePAM " + usePAM(), "PasswordAuthentication no", "PermitRootLogin yes",
			"PrintMotd no", "Subsystem sftp internal-sftp", "SetEnv PATH=" + machinePath, "",
		}, "\n"))
		m.must("mkdir -p /run/sshd && $(command -v sshd) -E /var/log/sshd.log")
	}
	var known []string
	for _, line := range s.hosts {
		known = append(known, knownhosts.Line([]string{strings.Fields(line)[1]}, s.key.Public))
	}
	for _, other := range s.machines {
		other.File("/etc/hosts", "127.0.0.1 localhost\n"+strings.Join(s.hosts, "\n")+"\n")
		other.File("/root/.ssh/known_hosts", strings.Join(known, "\n")+"\n")
	}
	return m
}

// Device puts a new loop device of that many bytes at a path of a machine: as a link beside it where the path has
// more than one part below /dev, as those of LVM and ZFS are, else as a node.
func (s *Stage) Device(machine, path string, size int64) {
	s.t.Helper()
	s.Machine(machine).device(path, Loop(s.t, size).Path)
}

// Stop ends all machines. It may be called twice.
func (s *Stage) Stop() { s.once.Do(s.stop) }

func (s *Stage) stop() {
	_ = s.init.Process.Kill() // --kill-child: the first process of the others ends with it, and they with that
	_ = s.init.Wait()
	for _, m := range s.machines {
		m.stop()
	}
}

// machinePath is where programs are looked for on a machine.
const machinePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// machineStart makes a root that nobody else sees, and becomes a shell in it. Its arguments are a directory to mount
// on, the name of the machine, and programs. A program is mounted, since the copy of a large one takes memory.
const machineStart = `set -e
mount -t tmpfs stage "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work stage root
cd root
mount -t proc proc proc
mount --rbind /sys sys
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
mount --bind /dev/pts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/ptmx /dev/loop-control dev
[ ! -e /dev/fuse ] || cp -a /dev/fuse dev
for number in $(seq 0 127); do mknod -m 660 dev/loop$number b 7 $number; done
chgrp disk dev/loop*
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
for dir in root home run tmp var/tmp var/log; do
	[ ! -d $dir ] || mount -t tmpfs -o mode=755 stage $dir
done
chmod 1777 tmp var/tmp
find mnt -mindepth 1 -delete # of this root only, for what mounts there
ip link set lo up
hostname "$2"
shift 2
for program; do
	touch usr/bin/${program##*/}
	mount --bind "$program" usr/bin/${program##*/}
done
exec chroot . /usr/bin/env -i HOME=/root USER=root LOGNAME=root SHELL=/bin/bash LANG=C.UTF-8 TERM=dumb PATH=` + machinePath + ` \
	/bin/bash -c 'cd /root && exec bash --norc'
`

// start runs the shell of a machine in the namespaces of the stage.
func (s *Stage) start(name string, programs []string) *Machine {
	s.t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(s.init.Process.Pid), "ns")
	m := &Machine{Name: name, t: s.t, dir: s.t.TempDir()}
	if name == Here {
		name = "backup"
	}
	m.cmd = exec.Command("nsenter", append([]string{"--net=" + filepath.Join(proc, "net"), "--pid=" + filepath.Join(proc, "pid_for_children"),
		"unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c", machineStart, "sh", m.dir, name}, programs...)...)
	m.open()
	if out, code := m.Run("true"); code != 0 {
		s.t.Fatalf("the machine %s does not start: %s", name, out)
	}
	return m
}
