//go:build linux

// Package vm runs a program inside a small virtual machine, for the features of a kernel that the machine of the
// tests lacks or must not be exposed to: device mapper, RAID, simulated SCSI disks.
//
// The machine has Debian's cloud kernel, an emulated processor, so that it runs where virtualisation is not allowed,
// and no disk: the program, the tools it calls and the modules come in an initramfs that is made for each run. It
// takes about five seconds to boot. The program fstests/vm/exec makes the package usable with "go test -exec".
package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// Command is what runs inside the machine, as root.
type Command struct {
	Path string   // of the program, on this machine
	Args []string // without the name of the program
	Env  []string // lines added to the environment of the machine

	Programs []string          `json:"-"` // are taken along; nil stands for those that tests inside call
	Modules  []string          `json:"-"` // are loaded; nil stands for those that tests inside need
	Files    map[string][]byte `json:"-"` // more files, for all to read and to run
	Links    map[string]string `json:"-"` // symbolic links and where they lead
}

// memory of the machine in MiB; half of it can be filled with files in /tmp.
const memory = 1536

// Run boots a machine that starts init, a program that calls Guest first of all, and through it the command. Output
// of the command goes to stdout as it comes. Run returns the exit code of the command; what keeps the machine from
// telling one is an error that holds the last messages of its kernel.
func Run(ctx context.Context, init string, c Command, stdout io.Writer) (code int, err error) {
	work, err := os.MkdirTemp("", "blockdev-vm")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(work)
	kernel, modules, err := require.Kernel()
	if err != nil {
		return 0, err
	}
	var recordTo string
	initrd, console := filepath.Join(work, "initrd"), filepath.Join(work, "console")
	c.Env, recordTo = recordInside(c.Env)
	if err := writeInitramfs(initrd, init, modules, c); err != nil {
		return 0, fmt.Errorf("initramfs: %w", err)
	}
	out := &output{w: stdout}
	if err := boot(ctx, kernel, initrd, console, out); err != nil {
		return 0, fmt.Errorf("%w; the last messages of its kernel:\n%s", err, tail(console))
	}
	code, recorded, err := out.end()
	if err != nil {
		return 0, fmt.Errorf("%w; the last messages of its kernel:\n%s", err, tail(console))
	}
	return code, keep(recordTo, recorded)
}

// recordVariable is the variable of the package harness that names the file in which tests note what they have
// played, and recordFile is that file inside a machine. What is in it at the end is added to the one outside.
const (
	recordVariable = "BLOCKDEV_TEST_RECORD"
	recordFile     = "/record"
)

// recordInside replaces the path of the record in an environment, and returns it.
func recordInside(env []string) (inside []string, path string) {
	for _, line := range env {
		if value, is := strings.CutPrefix(line, recordVariable+"="); is && value != "" {
			path, line = value, recordVariable+"="+recordFile
		}
		inside = append(inside, line)
	}
	return inside, path
}

// keep adds to the record of this machine, which several processes write.
func keep(path, recorded string) error {
	if path == "" || recorded == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(recorded); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// boot runs the machine until it is off. Its first serial port is the console of the kernel, the second carries the
// output of the command.
func boot(ctx context.Context, kernel, initrd, console string, out io.Writer) error {
	runtime.LockOSThread() // the machine dies with the thread that started it
	defer runtime.UnlockOSThread()
	qemu, err := require.Program("qemu-system-x86_64")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, qemu, append(hardware(kernel, initrd, console), "-no-reboot")...)
	cmd.Stdout = out
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("qemu-system-x86_64: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// hardware is what every machine has, as arguments of the emulator.
func hardware(kernel, initrd, console string) []string {
	return []string{
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", strconv.Itoa(memory),
		"-nodefaults", "-display", "none", "-serial", "file:" + console, "-serial", "stdio",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 no_timer_check rdinit=/init",
	}
}

// tail is the end of the console's output.
func tail(console string) string {
	text, err := os.ReadFile(console)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-80):], "\n")
}

// endMark starts the line that a machine prints at the end. The exit code follows, and on further lines the record.
const endMark = "\x00exit "

// output passes on what comes before the mark.
type output struct {
	w    io.Writer
	last []byte // from the mark on
}

func (o *output) Write(p []byte) (int, error) {
	text := p
	if o.last == nil {
		if at := bytes.IndexByte(p, endMark[0]); at >= 0 {
			text, o.last = p[:at], bytes.Clone(p[at:])
		}
		if _, err := o.w.Write(text); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	o.last = append(o.last, p...)
	return len(p), nil
}

// end is the exit code after the mark, and the record.
func (o *output) end() (code int, recorded string, err error) {
	text, found := strings.CutPrefix(string(o.last), endMark)
	first, recorded, _ := strings.Cut(text, "\n")
	code, err = strconv.Atoi(first)
	if !found || err != nil || recorded != "" && !strings.HasSuffix(recorded, "\n") {
		return 0, "", errors.New("the machine ended before the program did")
	}
	return code, recorded, nil
}
