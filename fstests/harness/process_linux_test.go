package harness

import (
	"os"
	"os/exec"
	"slices"
	"testing"
)

func TestProcesses(t *testing.T) {
	cmd := exec.Command("sleep", "600", "0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // it is killed, which is an error
	if got, want := Processes()[cmd.Process.Pid], []string{"sleep", "600", "0"}; !slices.Equal(got, want) {
		t.Errorf("arguments %q, want %q", got, want)
	}
	if got := Processes()[os.Getpid()]; !slices.Equal(got, os.Args) {
		t.Errorf("own arguments %q, want %q", got, os.Args)
	}
}
