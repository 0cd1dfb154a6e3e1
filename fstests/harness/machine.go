package harness

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Machine is one of a Stage: a root shell that stays, so that directories, variables and jobs of one command are
// there for the next.
type Machine struct {
	Name string

	t     testing.TB
	dir   string // its file systems are mounted there, for nobody else to see
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // what the shell prints, until it ends
}

// scribble FILE AT COUNT is a function of the shell that writes COUNT MiB of random data from MiB AT on.
const scribble = `scribble() { head -c "$3M" /dev/urandom | dd of="$1" bs=1M seek="$2" iflag=fullblock conv=notrunc,fsync status=none; }`

// patience is how long a command may print nothing.
const patience = 2 * time.Minute

// open starts the shell. One pipe takes all output, since its order tells where a command ends.
func (m *Machine) open() {
	m.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		m.t.Fatal(err)
	}
	m.cmd.Stdout, m.cmd.Stderr = w, w
	if m.stdin, err = m.cmd.StdinPipe(); err != nil {
		m.t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	w.Close()
	fmt.Fprintln(m.stdin, scribble)
	m.lines = make(chan string, 1000)
	go func() {
		defer close(m.lines)
		defer r.Close()
		in := bufio.NewReader(r)
		for {
			line, err := in.ReadString('\n')
			if line != "" {
				m.lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
}

// Run runs a command of the shell, which may have many lines, and returns what it printed on both outputs and its
// exit code. What it leaves in the background may go on printing into the output of the next.
func (m *Machine) Run(command string) (output string, code int) {
	m.t.Helper()
	const end = "-- the command ended --"
	if _, err := fmt.Fprintf(m.stdin, "eval %s </dev/null; printf '\\n%s%%d\\n' $?\n", Quote(command), end); err != nil {
		m.t.Fatalf("%s: the shell has ended: %v", m.Name, err)
	}
	var out strings.Builder
	for {
		select {
		case line, ok := <-m.lines:
			if !ok {
				m.t.Fatalf("%s: the shell ended in %q:\n%s", m.Name, command, out.String())
			}
			if status, ok := strings.CutPrefix(line, end); ok {
				code, err := strconv.Atoi(strings.TrimSpace(status))
				if err != nil {
					m.t.Fatal(err)
				}
				return strings.TrimSuffix(out.String(), "\n"), code
			}
			out.WriteString(line)
		case <-time.After(patience):
			m.t.Fatalf("%s: %q does not end:\n%s", m.Name, command, out.String())
		}
	}
}

// must is Run for what the stage itself needs.
func (m *Machine) must(command string) {
	m.t.Helper()
	if out, code := m.Run(command); code != 0 {
		m.t.Fatalf("%s: %s: status %d: %s", m.Name, command, code, out)
	}
}

// File writes a file and the directories above it. It may be run when it begins as a script does.
func (m *Machine) File(name, content string) {
	m.t.Helper()
	mode := "644"
	if strings.HasPrefix(content, "#!") {
		mode = "755"
	}
	m.must(fmt.Sprintf("mkdir -p %s && printf %%s %s >%s && chmod %s %[3]s", Quote(path.Dir(name)), Quote(content), Quote(name), mode))
}

// device gives a block device of this machine another path.
func (m *Machine) device(name, device string) {
	m.t.Helper()
	if path.Dir(name) == "/dev" {
		m.must(fmt.Sprintf("mknod -m 660 %s b %s && chgrp disk %[1]s", Quote(name), Tool(m.t, "stat", "--format=%Hr %Lr", device)))
		return
	}
	m.must(fmt.Sprintf("mkdir -p %s && ln -s %s %s", Quote(path.Dir(name)), device, Quote(name)))
}

// stop returns when the shell has ended, as it does with its stage.
func (m *Machine) stop() {
	m.stdin.Close()
	_ = m.cmd.Wait() // it was killed
}

// Quote makes one word of the shell.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
