package pages

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// Run runs a page on a stage of its own. The test fails at the first command that does, and by each output that is not
// as the page says.
func Run(t testing.TB, steps []Step) {
	t.Helper()
	if !slices.ContainsFunc(steps, func(s Step) bool { return s.verb == "command" }) {
		return
	}
	stage := harness.NewStage(t)
	defer stage.Stop()
	if err := play(t, stage, steps); err != nil {
		t.Fatal(err)
	}
}

// play returns an error that names the line of the page. Failures of the stage end the test.
func play(t testing.TB, stage *harness.Stage, steps []Step) error {
	t.Helper()
	output := ""      // of the last command
	var wrong []error // outputs; the page goes on, since nothing but a reader depends on them
	for _, s := range steps {
		switch s.verb {
		case "host":
			for _, name := range s.args {
				stage.Host(name)
			}
		case "device":
			n, err := size(s.args[2])
			if err != nil {
				return fmt.Errorf("line %d: %w", s.line, err)
			}
			stage.Device(s.args[0], s.args[1], n)
		case "program":
			for _, arg := range s.args[1:] {
				name, file, ok := strings.Cut(arg, "=")
				if ok {
					stage.Machine(s.args[0]).Run("ln -s " + file + " /usr/local/bin/" + name)
					continue
				}
				text, err := os.ReadFile(filepath.Join("testdata", "pages", name))
				if err != nil {
					return fmt.Errorf("line %d: %w", s.line, err)
				}
				stage.Machine(s.args[0]).File("/usr/local/bin/"+name, string(text))
			}
		case "file":
			stage.Machine(s.on).File(s.args[0], s.text)
		case "command":
			code := 0
			output, code = stage.Machine(s.on).Run(s.text)
			t.Logf("line %d: %s$ %s\n%s", s.line, s.on, strings.TrimSpace(s.text), output)
			if code != s.want {
				return errors.Join(append(wrong, fmt.Errorf("line %d: %q ended with status %d, not %d:\n%s", s.line, s.text, code, s.want, output))...)
			}
		case "output":
			if missing := Shows(output, s.text); missing != "" {
				wrong = append(wrong, fmt.Errorf("line %d: the output lacks %q of\n%s\nIt is\n%s", s.line, missing, s.text, output))
			}
		}
	}
	return errors.Join(wrong...)
}

// size is a number of bytes, with K, M or G for powers of 1024.
func size(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMG")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, err
	}
	return n << map[string]uint{"": 0, "K": 10, "M": 20, "G": 30}[s[len(digits):]], nil
}
