package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// report is what rclone-blockdev logs of one copy in bytes, by the keys of its
// JSON log.
type report struct {
	Scanned    *size // nil in lines that are no report
	SourceRead size
	TargetRead size
	Changed    size
	Zeroed     size
	Wire       size
	OnDisk     size `json:"allocatedAfter"`
	took       time.Duration
}

// line is one line of the log.
type line struct {
	Level   string
	Message string `json:"msg"`
	report
}

// rclone runs the program; its standard output is returned.
type rclone struct{ path string }

// environ leaves out rclone's settings, but for those of the backend: they may
// be what reaching the host takes.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "RCLONE_") && !strings.HasPrefix(v, "RCLONE_BLOCKDEV_")
	})
}

// run runs a command. The report is nil when the command logs none.
func (r rclone) run(ctx context.Context, args ...string) (out string, rep *report, err error) {
	cmd := exec.CommandContext(ctx, r.path, append([]string{"--config", "", "--use-json-log", "-v"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	cmd.Env = environ()
	var stdout strings.Builder
	cmd.Stdout = &stdout
	log, err := cmd.StderrPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	start := time.Now()
	rep, complaint := readLog(log)
	err = cmd.Wait()
	if rep != nil {
		rep.took = time.Since(start)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && complaint != "" {
		err = fmt.Errorf("%s: %s", args[0], strings.TrimPrefix(complaint, "Failed to "+args[0]+": "))
	}
	return stdout.String(), rep, err
}

// readLog returns the report in a log and the last thing it complains about.
func readLog(log io.Reader) (rep *report, complaint string) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			complaint = lines.Text() // not of the log: a panic, or the system
			continue
		}
		if l.Scanned != nil {
			rep = &l.report
		}
		if l.Level != "info" {
			complaint = l.Message
		}
	}
	_, _ = io.Copy(io.Discard, log) // after an overlong line: the program must not block
	return rep, complaint
}

// copy copies a whole image, also when size and time say that it is the same.
func (r rclone) copy(ctx context.Context, from, to string) (*report, error) {
	start := time.Now()
	_, rep, err := r.run(ctx, "copyto", "--ignore-times", from, to)
	if err == nil && rep == nil {
		rep = &report{took: time.Since(start)}
	}
	return rep, err
}
