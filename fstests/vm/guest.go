//go:build linux

package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Guest returns at once, except in a program that is the first one of a machine: there it runs the command, tells its
// exit code and turns the machine off.
func Guest() {
	if os.Getpid() != 1 {
		return
	}
	code, err := 1, prepare()
	port, openErr := openPort("/dev/ttyS1")
	if err = errors.Join(err, openErr); err == nil {
		code, err = runCommand(port)
	}
	if err != nil {
		fmt.Println("vm:", err) // on the console, which is shown when the code is missing
	} else {
		recorded, _ := os.ReadFile(recordFile) // often there is none
		fmt.Fprintf(port, "%s%d\n%s", endMark, code, recorded)
		_ = unix.IoctlSetInt(int(port.Fd()), unix.TCSBRK, 1) // waits until all is out
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // the first process must not end
}

// prepare makes the usual surroundings of a program.
func prepare() error {
	for _, m := range [][2]string{
		{"/proc", "proc"}, {"/sys", "sysfs"}, {"/dev", "devtmpfs"}, {"/dev/shm", "tmpfs"}, {"/tmp", "tmpfs"}, {"/run", "tmpfs"},
	} {
		if err := os.MkdirAll(m[0], 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m[1], m[0], m[1], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m[0], err)
		}
	}
	order, err := os.ReadFile(moduleList)
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(order)) {
		if err := Load(name, ""); err != nil {
			return err
		}
	}
	return nil
}

// openPort opens a serial line that changes nothing of what passes.
func openPort(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	return f, unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
}

// runCommand runs the command that the machine was made for.
func runCommand(port *os.File) (code int, err error) {
	text, err := os.ReadFile(commandFile)
	if err != nil {
		return 0, err
	}
	var c Command
	if err := json.Unmarshal(text, &c); err != nil {
		return 0, err
	}
	cmd := exec.Command(programFile, c.Args...)
	cmd.Dir = "/tmp"
	// Nothing here manages device nodes but the kernel and the tools of the device mapper themselves.
	cmd.Env = append([]string{"PATH=/bin", "HOME=/root", "TMPDIR=/tmp", "LC_ALL=C", "DM_DISABLE_UDEV=1"}, c.Env...)
	cmd.Stdout, cmd.Stderr = port, port
	var failed *exec.ExitError
	switch err := cmd.Run(); {
	case err == nil:
		return 0, nil
	case errors.As(err, &failed) && failed.Exited():
		return failed.ExitCode(), nil
	case errors.As(err, &failed):
		fmt.Fprintf(port, "the program ended by %v\n", failed)
		return 2, nil
	default:
		return 0, err
	}
}

// Load loads a module of the machine, with parameters separated by blanks.
func Load(name, parameters string) error {
	f, err := os.Open(moduleDir + "/" + moduleName(name) + ".ko")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), parameters, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", name, err)
	}
	return nil
}

// Unload removes a module, which nothing may use any more.
func Unload(name string) error {
	if err := unix.DeleteModule(moduleName(name), unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("unload module %s: %w", name, err)
	}
	return nil
}
