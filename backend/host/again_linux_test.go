package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What a connection has found intact is started again without looking: checking costs more than starting.
func TestDeployer_Start_Again(t *testing.T) {
	dir, _ := home(t)
	looked := filepath.Join(dir, "looked")
	tool := filepath.Join(t.TempDir(), "sha256sum")
	if err := os.WriteFile(tool, []byte("#!/bin/sh\necho x >>"+looked+"\nPATH=${PATH#*:} exec sha256sum\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(tool)+":"+os.Getenv("PATH"))
	looks := func() int {
		said, _ := os.ReadFile(looked) // not there before the first look
		return strings.Count(string(said), "x")
	}
	d := shellConn(t, Config{}, "/bin/sh")
	unpacked := withHelper(d, fakeHelper)
	start(t, d)
	first := looks()
	start(t, d)
	if first == 0 || looks() != first {
		t.Errorf("looked %d times for the first start and %d for the second", first, looks()-first)
	}
	if err := os.Remove(stored(t, dir+"/.cache")[0]); err != nil {
		t.Fatal(err)
	}
	start(t, d)
	if unpacked.Load() != 2 {
		t.Errorf("a helper that went away was stored %d times in all", unpacked.Load())
	}
	if err := os.WriteFile(stored(t, dir+"/.cache")[0], []byte("broken"), 0o700); err != nil {
		t.Fatal(err)
	}
	start(t, d)
	if unpacked.Load() != 3 {
		t.Errorf("a helper that broke was not stored again: %d times in all", unpacked.Load())
	}
	d.found = time.Now().Add(-2 * lately)
	first = looks()
	start(t, d)
	if looks() == first {
		t.Error("what was found intact long ago was not looked at again")
	}
}
