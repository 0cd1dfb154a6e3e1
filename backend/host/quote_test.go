package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// loginShells are the shells that a user may have; those that exist here are
// tested.
func loginShells(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, shell := range []string{"sh", "bash", "dash", "busybox ash", "zsh", "mksh", "fish", "csh", "tcsh"} {
		words := strings.Fields(shell)
		if path, err := exec.LookPath(words[0]); err == nil {
			found[shell] = append([]string{path}, words[1:]...)
		}
	}
	if len(found) == 0 {
		t.Fatal("no shell found")
	}
	return found
}

var awkwardWords = []string{
	"", "plain", "/dev/sdb", "a b", "  ", "'", "''", `"`, `\`, `\\`, `\n`, "!", "a!b", "!!", "$HOME", "${x}", "`id`", "$(id)",
	"*", "?", "[a]", "{a,b}", "~", "~/x", "#c", "a;b", "a&b", "a|b", "<x", ">x", "(x)", "-n", "--", "%s", "%", "=x", "^x",
	"linux/amd64=0123", "größe", "日本", `it's "all" \here! $x`,
}

func TestShellWord(t *testing.T) {
	for name, shell := range loginShells(t) {
		t.Run(name, func(t *testing.T) {
			command := "printf %s/"
			command = strings.Replace(command, "%s/", shellWord("<%s>"), 1)
			for _, w := range awkwardWords {
				command += " " + shellWord(w)
			}
			out, err := exec.Command(shell[0], append(shell[1:], "-c", command)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if want := "<" + strings.Join(awkwardWords, "><") + ">"; string(out) != want {
				t.Errorf("got  %s\nwant %s", out, want)
			}
		})
	}
}

func TestHomeWord(t *testing.T) {
	dir, _ := home(t)
	for name, shell := range loginShells(t) {
		out, err := exec.Command(shell[0], append(shell[1:], "-c", "echo "+homeWord("~/it's a/dir"))...).CombinedOutput()
		if want := dir + "/it's a/dir\n"; err != nil || string(out) != want {
			t.Errorf("%s: got %q, %v, want %q", name, out, err, want)
		}
	}
}

func TestCheckWords(t *testing.T) {
	bad := map[string]Config{
		"line end":      {Host: "h", HelperPath: "/a\nb"},
		"zero byte":     {Host: "h", HelperDir: "/a\x00b"},
		"not UTF-8":     {Host: "h", HelperPath: "/\xff"},
		"option host":   {Host: "-oProxyCommand=x"},
		"option user":   {Host: "h", User: "-oProxyCommand=x"},
		"relative dir":  {Host: "h", HelperDir: "var/tmp"},
		"port is words": {Host: "h", Port: "ssh"},
	}
	for name, cfg := range bad {
		t.Run(name, func(t *testing.T) { wantError(t, checkWords(cfg), KindConfig, false) })
	}
	if err := checkWords(Config{Host: "h", User: "u", Port: "22", HelperDir: "~/x y", HelperPath: "helper"}); err != nil {
		t.Error(err)
	}
}

func TestScripts_Characters(t *testing.T) {
	for name, script := range map[string]string{"run": scriptRun, "again": scriptAgain, "store": scriptStore, "remove": scriptRemove, "paths": scriptPaths, "installed": scriptInstalled} {
		if i := strings.IndexAny(script, "'\\!\n\r"); i >= 0 {
			t.Errorf("script %s holds %q, which fish or csh change", name, script[i])
		}
		if !utf8.ValidString(script) || len(script) > 4000 {
			t.Errorf("script %s: %d bytes", name, len(script))
		}
	}
}

// Remote command lines come from quote.go and bootstrap.go alone.
func TestCommands_OnePlace(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	building := regexp.MustCompile(`"(sh|sudo|exec|cat|mkdir|chmod|env) [-"/~]|scriptRun|scriptStore|scriptCommand\(|shellWord\(|homeWord\(|session\.(Run|Output|CombinedOutput|Shell)\(`)
	for _, file := range files {
		if file == "quote.go" || file == "bootstrap.go" || file == "options.go" || strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if hit := building.Find(text); hit != nil {
			t.Errorf("%s builds a command line: %s", file, hit)
		}
	}
}
