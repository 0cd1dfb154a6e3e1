//go:build unix

package recovery

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A log is a file of this user: no link to one, no pipe, nothing of somebody else.
func TestLog_NotOurs(t *testing.T) {
	dir := t.TempDir()
	path, _, _ := made(t, dir)
	link, pipe, foreign := filepath.Join(dir, "link.undo"), filepath.Join(dir, "pipe.undo"), filepath.Join(dir, "foreign.undo")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	refused := []string{link, pipe}
	if os.Geteuid() == 0 {
		if err := os.WriteFile(foreign, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(foreign, 12345, 0); err != nil {
			t.Fatal(err)
		}
		refused = append(refused, foreign)
	}
	for _, path := range refused {
		if l, err := openLog(path, 0); err == nil {
			l.close()
			t.Errorf("%s is opened as a log", path)
		}
		if _, err := readSubject(path); err == nil {
			t.Errorf("%s is read as a log", path)
		}
	}
	l, err := openLog(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.close()
}
