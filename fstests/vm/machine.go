//go:build linux

package vm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// Machine is a machine that runs until it is stopped, whatever happens to it: it has a network interface with the
// address Address, of which one port is reached from this machine, and disks.
type Machine struct {
	Addr string // host:port on this machine that leads to port 22 of the machine

	work   string
	disks  []*Disk
	random *rand.Rand
	said   said
	qmp    *qmp
	kill   func()
	ended  chan struct{} // closed when the emulator has ended
	err    error         // of the emulator; read after ended

	listeners []net.Listener // of the disks
	served    sync.WaitGroup
}

// Address is that of a machine's network interface eth0, which its command sets with the netmask 255.255.255.0.
const Address = "10.0.2.15"

// NetworkModules are those that the network interface and the disks of a Machine need.
var NetworkModules = []string{"virtio_pci", "virtio_blk", "virtio_net"}

// Start turns on a machine that starts init, and through it the command, after each reset anew. The disks are
// /dev/vda and so on. seed decides what a disk keeps when the power is cut.
func Start(init string, c Command, seed uint64, disks ...*Disk) (m *Machine, err error) {
	m = &Machine{disks: disks, random: rand.New(rand.NewPCG(seed, 0)), ended: make(chan struct{})}
	if m.work, err = os.MkdirTemp("", "blockdev-vm"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.Stop()
		}
	}()
	kernel, modules, err := require.Kernel()
	if err != nil {
		return nil, err
	}
	if err := writeInitramfs(m.path("initrd"), init, modules, c); err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	args := append(hardware(kernel, m.path("initrd"), m.path("console")), "-qmp", "unix:"+m.path("qmp")+",server=on,wait=off",
		"-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile=")
	for i, d := range disks {
		socket := m.path(fmt.Sprint("disk", i))
		if err := m.serve(d, socket); err != nil {
			return nil, err
		}
		args = append(args, "-blockdev", fmt.Sprintf("nbd,node-name=disk%d,server.type=unix,server.path=%s", i, socket),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=disk%d,serial=%s", i, d.Serial))
	}
	if err := m.boot(args); err != nil {
		return nil, err
	}
	if m.qmp, err = dialQMP(m.path("qmp"), m.ended); err != nil {
		return nil, m.explain(err)
	}
	return m, m.forward()
}

func (m *Machine) path(name string) string { return filepath.Join(m.work, name) }

// serve lets one emulator use d.
func (m *Machine) serve(d *Disk, socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	m.listeners = append(m.listeners, l)
	m.served.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if err := d.serve(conn); err != nil {
			fmt.Fprintf(&m.said, "disk %s: %v\n", d.Serial, err)
		}
	})
	return nil
}

// boot starts the emulator.
func (m *Machine) boot(args []string) error {
	qemu, err := require.Program("qemu-system-x86_64")
	if err != nil {
		return err
	}
	cmd := exec.Command(qemu, args...)
	cmd.Stdout, cmd.Stderr = &m.said, &m.said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the machine dies with the thread that started it
		defer close(m.ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			m.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	m.kill = func() { _ = cmd.Process.Kill() } // it may have ended
	return nil
}

// forward opens a port of this machine. One that is free may be taken by another process before it is used.
func (m *Machine) forward() error {
	for range 10 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		m.Addr = l.Addr().String()
		l.Close()
		var said string
		if err := m.qmp.call("human-monitor-command", map[string]any{"command-line": "hostfwd_add net tcp:" + m.Addr + "-:22"}, &said); err != nil {
			return m.explain(err)
		}
		if said == "" {
			return nil
		}
	}
	return errors.New("no port can be forwarded")
}

// Reset starts the machine anew, as the button on a server does: its memory is lost.
func (m *Machine) Reset() error { return m.explain(m.qmp.reset()) }

// PowerCut takes the power away and gives it again: memory is lost, and half of what disks have in their caches.
// Until it returns, the machine may say that something is durable that is not.
func (m *Machine) PowerCut() error {
	for _, d := range m.disks {
		if err := d.cut(m.random, 0.5); err != nil {
			return err
		}
	}
	err := m.Reset()
	for _, d := range m.disks {
		d.power()
	}
	return err
}

// Running tells whether the machine is there, be it in the middle of a boot.
func (m *Machine) Running() bool {
	select {
	case <-m.ended:
		return false
	default:
		return true
	}
}

// Log is what the command, the kernel and the emulator said so far.
func (m *Machine) Log() string { return m.said.String() + tail(m.path("console")) }

// explain adds what is known of the emulator's end to err.
func (m *Machine) explain(err error) error {
	if err == nil || m.Running() {
		return err
	}
	return fmt.Errorf("%w: the emulator ended: %v: %s", err, m.err, m.Log())
}

// Stop takes the power away for good, with all that disks have in their caches. It may be called twice.
func (m *Machine) Stop() {
	for _, d := range m.disks {
		_ = d.cut(m.random, 0) // stores nothing
	}
	if m.kill != nil {
		m.kill()
		<-m.ended
	}
	for _, l := range m.listeners {
		l.Close()
	}
	m.served.Wait()
	os.RemoveAll(m.work)
}

// said collects what several write.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer // hold mu
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// qmp is a connection to the monitor of an emulator. Its methods are for one goroutine at a time.
type qmp struct {
	conn    net.Conn
	answers chan qmpAnswer // closed when the emulator has ended
	resets  chan struct{}
}

type qmpAnswer struct {
	Return json.RawMessage        `json:"return"`
	Error  *struct{ Desc string } `json:"error"`
	Event  string                 `json:"event"`
	Hello  *struct{ Version any } `json:"QMP"`
}

// qmpLimit is how long a machine may take for its answer, on a host that has much else to do.
const qmpLimit = time.Minute

// dialQMP waits until the emulator listens.
func dialQMP(path string, ended <-chan struct{}) (*qmp, error) {
	for end := time.Now().Add(qmpLimit); ; {
		conn, err := net.Dial("unix", path)
		if err == nil {
			q := &qmp{conn: conn, answers: make(chan qmpAnswer, 1), resets: make(chan struct{}, 16)}
			go q.listen()
			return q, q.call("qmp_capabilities", nil, nil)
		}
		select {
		case <-ended:
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			return nil, err
		}
	}
}

func (q *qmp) listen() {
	defer close(q.answers)
	defer q.conn.Close()
	for lines := json.NewDecoder(q.conn); ; {
		var a qmpAnswer
		if lines.Decode(&a) != nil {
			return
		}
		switch {
		case a.Event == "RESET":
			q.resets <- struct{}{}
		case a.Event == "" && a.Hello == nil:
			q.answers <- a
		}
	}
}

// call runs a command and stores what it returns.
func (q *qmp) call(command string, args, result any) error {
	request := map[string]any{"execute": command}
	if args != nil {
		request["arguments"] = args
	}
	if err := json.NewEncoder(q.conn).Encode(request); err != nil {
		return err
	}
	select {
	case a, ok := <-q.answers:
		switch {
		case !ok:
			return fmt.Errorf("%s: no answer", command)
		case a.Error != nil:
			return fmt.Errorf("%s: %s", command, a.Error.Desc)
		case result != nil:
			return json.Unmarshal(a.Return, result)
		}
		return nil
	case <-time.After(qmpLimit):
		return fmt.Errorf("%s: no answer in time", command)
	}
}

// reset returns when nothing of what ran before does so any more.
func (q *qmp) reset() error {
	for len(q.resets) > 0 { // of a machine that restarted by itself
		<-q.resets
	}
	if err := q.call("system_reset", nil, nil); err != nil {
		return err
	}
	select {
	case <-q.resets:
		return nil
	case <-time.After(qmpLimit):
		return errors.New("system_reset: it did not come in time")
	}
}
