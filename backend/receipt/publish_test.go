package receipt

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A receipt comes with its manifest, is valid where it then is, and replaces nothing.
func TestPublish(t *testing.T) {
	from, dir := stored(t), t.TempDir()
	to, err := Publish(from, dir)
	if err != nil || to != filepath.Join(dir, filepath.Base(from)) {
		t.Fatalf("%s, %v", to, err)
	}
	_, m, err := Open(to)
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if _, err := Publish(from, dir); !errors.Is(err, os.ErrExist) {
		t.Errorf("%v", err)
	}
	if all, _ := os.ReadDir(dir); len(all) != 2 {
		t.Errorf("%v", all)
	}
	// A receipt whose JSON cannot be stored leaves no manifest; one that is there stays.
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, filepath.Base(from)), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Publish(from, dir); err == nil {
		t.Error("no error")
	}
	if all, _ := os.ReadDir(dir); len(all) != 1 {
		t.Errorf("left %v", all)
	}
	if _, err := Publish(from, filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
