package require

import (
	"os/exec"
	"strings"
	"testing"
)

// "go test ./fstests/... -long" gives the flag to every test binary there, and one that does not know it fails.
func TestLong_IsKnownToAll(t *testing.T) {
	const format = `{{if .ForTest}}{{else}}{{.ImportPath}} {{join .Deps " "}}{{end}}`
	out, err := exec.Command("go", "list", "-test", "-f", format, "../...").Output()
	if err != nil {
		t.Fatal(err)
	}
	tests := 0
	for line := range strings.Lines(string(out)) {
		name, deps, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasSuffix(name, ".test") {
			continue
		}
		tests++
		if !strings.Contains(deps, "fstests/require") {
			t.Errorf("the tests of %s do not import fstests/require", strings.TrimSuffix(name, ".test"))
		}
	}
	if tests < 5 {
		t.Errorf("only %d test binaries are known", tests)
	}
}
