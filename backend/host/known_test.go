package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKnown(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct{ name, config, want string }{
		{"none", "none", "localhost"},
		{"empty", put("empty", ""), "localhost"},
		{"aliases", put("aliases", "Host zeus nas\n  User root\nHost *.example.com !x web?\nHost nas\nHost localhost\nHost *\n"), "localhost nas zeus"},
	} {
		got, err := Known(Config{SSHConfig: c.config})
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	if _, err := Known(Config{SSHConfig: filepath.Join(dir, "missing")}); err == nil {
		t.Error("a file that was asked for and is missing is no error")
	}
}
