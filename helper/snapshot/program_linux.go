package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

const (
	toolTime   = 2 * time.Minute  // for a program of the system
	hookTime   = 10 * time.Minute // for a program of the user
	endTime    = 5 * time.Second  // between asking a program to end and killing it
	maxOutput  = 64 << 10         // bytes that are kept of what a program prints
	maxLines   = 20               // lines of a hook that are logged
	maxMessage = 300              // bytes of a program's message in an error
)

// programError is a program that failed, and what it said.
type programError struct {
	name string
	said string // one line
	err  error
}

func (e *programError) Error() string {
	if e.said == "" {
		return fmt.Sprintf("%s: %v", e.name, e.err)
	}
	return fmt.Sprintf("%s: %s", e.name, e.said)
}

func (e *programError) Unwrap() error { return e.err }

// says tells whether the program's message has one of the phrases. Programs of the system say no more than a number
// that is the same for all failures; their messages are in English, since that is what they are told.
func says(err error, phrases ...string) bool {
	var pe *programError
	if !errors.As(err, &pe) {
		return false
	}
	for _, phrase := range phrases {
		if strings.Contains(strings.ToLower(pe.said), phrase) {
			return true
		}
	}
	return false
}

// output keeps the beginning of what a program prints.
type output struct{ bytes.Buffer }

func (o *output) Write(p []byte) (int, error) {
	o.Buffer.Write(p[:min(len(p), max(0, maxOutput-o.Len()))])
	return len(p), nil
}

// tool runs a program of the system and returns what it printed.
func tool(ctx context.Context, name string, args ...string) (string, error) {
	out, said, err := execute(ctx, toolTime, nil, append([]string{name}, args...))
	if err != nil {
		return "", &programError{name, oneLine(said), err}
	}
	return strings.TrimSpace(out), nil
}

// execute runs a program without a shell. It and what it started are ended when the time is over or ctx ends.
func execute(ctx context.Context, limit time.Duration, env, words []string) (stdout, stderr string, err error) {
	path, err := find(words[0])
	if err != nil {
		return "", "", fail(device.ErrUnsupported, words[0], "there is no such program on this host, or it may not be run: install it, or give its whole path")
	}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, words[1:]...)
	cmd.Args[0] = words[0]
	cmd.Dir = "/"
	cmd.Env = append(environment(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// What it has begun, such as a freeze of a guest, it may undo before it is killed.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = endTime
	var out, said output
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) { // something it has started keeps its output
		err = nil
	}
	if ctx.Err() != nil && cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	if ctx.Err() != nil && outer.Err() == nil {
		err = fmt.Errorf("did not end within %v", limit)
	}
	return out.String(), said.String(), err
}

// places of programs that are not always on the PATH of who logs in.
const sbin = "/usr/local/sbin:/usr/sbin:/sbin"

// find looks a program up as a shell of root would.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil || strings.Contains(name, "/") {
		return path, err
	}
	for dir := range strings.SplitSeq(sbin, ":") {
		if path, err := exec.LookPath(dir + "/" + name); err == nil {
			return path, nil
		}
	}
	return "", err
}

// environment is that of all programs: messages in English, and the usual places on the PATH.
func environment() []string {
	var env []string
	for _, line := range os.Environ() {
		name, _, _ := strings.Cut(line, "=")
		if name != "PATH" && !strings.HasPrefix(name, "LC_") && name != "LANG" && name != "LANGUAGE" {
			env = append(env, line)
		}
	}
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	return append(env, "LC_ALL=C", "PATH="+path+":"+sbin, "LVM_SUPPRESS_FD_WARNINGS=1")
}

// oneLine is what a program said, in one line: warnings come after what went wrong.
func oneLine(said string) string {
	var errs, warnings []string
	for line := range strings.Lines(said) {
		line = strings.Join(strings.Fields(clean(line)), " ")
		switch {
		case line == "":
		case strings.HasPrefix(line, "WARNING"):
			warnings = append(warnings, line)
		default:
			errs = append(errs, line)
		}
	}
	text := strings.Join(append(errs, warnings...), "; ")
	return text[:min(len(text), maxMessage)]
}

// clean drops control characters: what a program prints goes into a log.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

// lines is what a hook printed, for a log.
func lines(text string) (all []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(clean(line))
		if line == "" {
			continue
		}
		if len(all) == maxLines {
			return append(all, "... and more")
		}
		all = append(all, line[:min(len(line), maxMessage)])
	}
	return all
}

// toolFailed explains why a program of the system failed with path.
func toolFailed(path, what string, err error) error {
	var de *device.Error
	var pe *programError
	switch {
	case errors.As(err, &de):
		return fail(de.Kind, path, "%s: the program %s is not installed on this host, or cannot be run by this user", what, de.Path)
	case !errors.As(err, &pe):
		return fail(device.ErrIO, path, "%s: %v", what, err)
	case says(err, "insufficient free space", "out of space", "no space", "insufficient suitable"):
		return fail(device.ErrNoSpace, path, "%s: %v", what, pe)
	case says(err, "permission denied", "permission", "run as root", "must be root", "operation not permitted"):
		return fail(device.ErrPermission, path, "%s: only root can do that here, use the option sudo: %v", what, pe)
	case says(err, "already exists", "dataset exists"):
		return fail(device.ErrBusy, path, "%s: the name is taken: %v", what, pe)
	}
	return fail(device.ErrIO, path, "%s: %v", what, pe)
}
