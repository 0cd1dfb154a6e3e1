package main

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

// program runs the program with an input that ends at once.
func program(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	in, feed := pipe(t)
	feed.Close()
	out, sink := pipe(t)
	var errors strings.Builder
	code = run(args, in, sink, &errors)
	sink.Close()
	text, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	return code, string(text), errors.String()
}

func TestRun(t *testing.T) {
	tests := map[string]struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		"none":           {nil, 0, "usage:", ""},
		"help":           {[]string{"help"}, 0, "usage:", ""},
		"help of root":   {[]string{"help", "root"}, 0, "Usage: blockdev-helper root", ""},
		"help of none":   {[]string{"help", "write"}, 2, "", `"write"`},
		"list":           {[]string{"help"}, 0, "blockdev-helper compare [flags] A B", ""},
		"tool":           {[]string{"root", "--help"}, 0, "Exit codes: 0", ""},
		"tool usage":     {[]string{"compare", "a"}, 2, "", "usage: blockdev-helper compare"},
		"version":        {[]string{"version"}, 0, "protocol", ""},
		"unknown":        {[]string{"server"}, 2, "", `"server"`},
		"serve":          {[]string{"serve"}, 0, wire.Magic, ""},
		"serve policy":   {[]string{"serve", "--allow", "/dev", "--allow=/srv", "--read-only"}, 0, wire.Magic, ""},
		"serve help":     {[]string{"serve", "-h"}, 0, "", "read-only"},
		"relative allow": {[]string{"serve", "--allow", "dev"}, 2, "", "absolute"},
		"unknown flag":   {[]string{"serve", "--write"}, 2, "", "write"},
		"stray path":     {[]string{"serve", "--read-only", "/dev"}, 2, "", `"/dev"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := program(t, tt.args...)
			if code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) {
				t.Errorf("code %d, stdout %q, stderr %q", code, stdout, stderr)
			}
			if code != 0 && strings.Contains(stdout, wire.Magic) {
				t.Error("it served in spite of wrong usage")
			}
		})
	}
}

func TestParsePolicy(t *testing.T) {
	p, err := parsePolicy([]string{"--allow", "/dev/vg0/", "-read-only"}, io.Discard)
	if err != nil || len(p.Allow) != 1 || p.Allow[0] != "/dev/vg0" || !p.ReadOnly || p.AllowHooks || p.AllowSnapshots {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = parsePolicy([]string{"--read-only", "--allow-hooks", "--allow-snapshots"}, io.Discard)
	if err != nil || !p.ReadOnly || !p.AllowHooks || !p.AllowSnapshots {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := parsePolicy(nil, io.Discard); err != nil || p.Allow != nil || p.ReadOnly {
		t.Errorf("%+v, %v", p, err)
	}
}

// A client that breaks the protocol but keeps the line open does not keep the
// helper.
func TestServe_EndsWithOpenInput(t *testing.T) {
	cmd := exec.Command(harness.Bin(t, "blockdev-helper"), "serve")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	if _, err := stdin.Write([]byte(strings.Repeat("garbage ", wire.MaxPreamble/4))); err != nil {
		t.Log(err) // it may have gone already
	}
	select {
	case err := <-exited:
		if err == nil {
			t.Error("a broken protocol is no success")
		}
	case <-time.After(10 * time.Second):
		_ = cmd.Process.Kill()
		t.Error("the helper waits for a client that broke the protocol")
	}
}

// Closing the stream ends a Read that waits for more.
func TestStream_Close(t *testing.T) {
	in, _ := pipe(t)
	_, out := pipe(t)
	s, err := openStream(in, out)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1))
		ended <- err
	}()
	time.Sleep(50 * time.Millisecond) // the Read should be under way
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("read something")
		}
	case <-time.After(5 * time.Second):
		t.Error("the Read goes on")
	}
}

// The helper runs on hosts of which nothing is known: it must be static even
// where cgo is on, and must not open connections.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.Lines(string(out)) {
		switch path = strings.TrimSpace(path); {
		case path == "net" || strings.HasPrefix(path, "net/"), path == "os/user", path == "runtime/cgo", strings.Contains(path, "rclone/rclone"):
			t.Errorf("the helper imports %s", path)
		}
	}
}
