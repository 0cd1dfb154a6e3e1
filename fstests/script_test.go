package fstests

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// TestScript runs testdata/script, one script for each thing a user is promised. The commands that the scripts
// have beside those of testscript are in script_commands_test.go. Each script has a home of its own, so that what
// is typed there works as typed by a user without any configuration.
func TestScript(t *testing.T) {
	programs := filepath.Dir(harness.Bin(t, "rclone-blockdev"))
	helper := harness.Bin(t, "blockdev-helper")
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                commands,
		Condition:           condition,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			if err := os.MkdirAll(filepath.Join(home, ".ssh"), 0o700); err != nil {
				return err
			}
			for name, value := range map[string]string{
				"HELPER": helper, "HOME": home, "RCLONE_CONFIG": filepath.Join(home, "rclone.conf"), "USER": os.Getenv("USER"), "LC_ALL": "C",
				"PATH": programs + string(filepath.ListSeparator) + env.Getenv("PATH") + ":/usr/sbin:/sbin",
			} {
				env.Setenv(name, value)
			}
			env.Values[sceneKey{}] = &scene{t: env.T().(testing.TB)}
			return nil
		},
	})
}

// condition answers [root], [loop] and the like. They choose between lines; what a script cannot do without it
// asks for with the command "needs".
func condition(name string) (bool, error) { return require.Missing(require.Thing(name)) == nil, nil }

// TestScript_skips keeps scripts from skipping past the gate.
func TestScript_skips(t *testing.T) {
	skip := regexp.MustCompile(`(?m)^(\[[^]]*\] *)*(skip|stop)\b`)
	files, err := filepath.Glob(filepath.Join("testdata", "script", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts found: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if line := skip.FindString(string(text)); line != "" {
			t.Errorf("%s: %q ends the script unseen: say what it needs with the command needs", file, line)
		}
		if first, _, _ := strings.Cut(string(text), "\n"); !strings.HasPrefix(first, "# ") {
			t.Errorf("%s does not begin with the promise it checks", file)
		}
	}
}
