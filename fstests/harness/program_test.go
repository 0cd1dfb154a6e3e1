package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBuild uses a module of its own, since the programs of this one take long to link.
func TestBuild(t *testing.T) {
	root, out := t.TempDir(), t.TempDir()
	main := filepath.Join(root, "cmd", "hello", "main.go")
	if err := os.MkdirAll(filepath.Dir(main), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(root, "go.mod"), []byte("module example.org/hello\n"))
	path := filepath.Join(out, "hello")
	for _, word := range []string{"first", "second"} {
		writeFile(t, main, []byte("package main\n\nfunc main() { println(\""+word+"\") }\n"))
		for range 2 { // the second build finds it up to date
			if err := build(root, "hello", path); err != nil {
				t.Fatal(err)
			}
			said, err := exec.Command(path).CombinedOutput()
			if err != nil || strings.TrimSpace(string(said)) != word {
				t.Errorf("program says %q, %v, want %q", said, err, word)
			}
		}
	}
	if left, _ := os.ReadDir(out); len(left) != 1 {
		t.Errorf("builds left behind %v", left)
	}
	writeFile(t, main, []byte("package main\n\nfunc main() { undefined() }\n"))
	if err := build(root, "hello", path); err == nil || !strings.Contains(err.Error(), "undefined") {
		t.Errorf("error %v does not show the compiler's", err)
	}
}

func TestClient_Environ(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "/the/agent/of/the/user")
	t.Setenv("RCLONE_TRANSFERS", "1")
	home := t.TempDir()
	c := &Client{Home: home, Config: filepath.Join(home, "rclone.conf"), Env: map[string]string{"A": "b", "LC_ALL": ""}}
	env := c.Environ()
	for _, want := range []string{"HOME=" + home, "RCLONE_CONFIG=" + c.Config, "A=b"} {
		if !slices.Contains(env, want) {
			t.Errorf("environment lacks %s: %q", want, env)
		}
	}
	for _, line := range env {
		for _, name := range []string{"SSH_AUTH_SOCK=", "RCLONE_TRANSFERS=", "LC_ALL="} {
			if strings.HasPrefix(line, name) {
				t.Errorf("environment has %s", line)
			}
		}
	}
}
