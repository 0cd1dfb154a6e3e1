package fstests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// daemon is an rclone that is asked over its remote control.
type daemon struct {
	cmd    *exec.Cmd
	socket string
	http   *http.Client
	stderr bytes.Buffer // valid after ended
	ended  chan error
}

// daemon starts rclone with a remote control and returns when that answers. It ends with the test.
func (l *line) daemon(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := &daemon{socket: filepath.Join(t.TempDir(), "rc"), ended: make(chan error, 1)}
	d.http = &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true, // what is left of them would be counted
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.socket)
		},
	}}
	d.cmd = l.client.Command(t.Context(), append(args, "--rc-no-auth", "--rc-addr", "unix://"+d.socket)...)
	d.cmd.Stderr = &d.stderr
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		err := d.cmd.Wait()
		d.ended <- err
		close(d.ended)
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill() // it may have ended
		<-d.ended
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, err := d.call("rc/noop", nil)
		if err == nil {
			return d
		}
		if time.Now().After(end) {
			t.Fatalf("rclone does not answer: %v", err)
		}
	}
}

// params are the parameters or the result of a call.
type params map[string]any

// call makes a call and returns its result.
func (d *daemon) call(what string, in params) (out params, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	resp, err := d.http.Post("http://rc/"+what, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %v", what, out["error"])
	}
	return out, err
}

// goroutines is how many there are in the program.
func (d *daemon) goroutines(t *testing.T) int {
	t.Helper()
	resp, err := d.http.Get("http://rc/debug/pprof/goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscanf(string(text), "goroutine profile: total %d", &n); err != nil {
		t.Fatalf("%.200s: %v", text, err)
	}
	return n
}

// descriptors is how many the program has open.
func (d *daemon) descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// memory is a number of bytes that /proc tells of a process, such as VmHWM; 0 when it has ended.
func memory(pid int, what string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "\n"+what+":")
	words := strings.Fields(rest)
	if len(words) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(words[0], 10, 64) // the kernel writes numbers
	return n << 10
}
