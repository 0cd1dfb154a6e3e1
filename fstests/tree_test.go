// Package fstests holds the tests that see the project from outside: rules on the source tree, and scenarios that
// run the finished programs against a real OpenSSH server and real block devices.
package fstests

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// topLevel lists what may stand beside README.md. Names that begin with a dot are the business of their tools,
// and bin is where programs are built.
var topLevel = []string{
	"README.md", "LICENSE", "CHANGELOG.md", "go.mod", "go.sum",
	"backend", "bin", "cmd", "docs", "fstests", "helper",
}

const maxLines = 450

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// ban is a form that source lines may not have. The patterns are written so that they do not match themselves.
type ban struct {
	name    string
	pattern *regexp.Regexp
	unless  *regexp.Regexp // lines that match it too are fine, nil for none
	tests   bool           // holds for tests
	code    bool           // holds for everything else
	except  string
	why     string
}

var bans = []ban{
	{"Skip", regexp.MustCompile(`[.](?:Skip|Skipf|SkipNow)[(]|testing[.]Short[(]`), nil, true, true, "fstests/require/",
		"a test asks fstests/require for what it needs, so that a gate can forbid the skip"},
	{"ErrorText", regexp.MustCompile(`[.]Error[(][)] *[=!]=|[=!]= *\S+[.]Error[(][)]|strings[.]\w+[(]\S*[.]Error[(][)],`), nil, false, true, "",
		"an error is recognised by errors.Is or errors.As, since its text is for people"},
	{"Panic", regexp.MustCompile(`\bpanic[(]`), regexp.MustCompile(`panic[(](?:fmt[.]Sprintf[(])?"internal error`), false, true, "",
		"a panic is our own mistake and says \"internal error\" first; input gets an error"},
	{"Open", regexp.MustCompile(`\b(?:TO[D]O|FIX[M]E|XX[X])\b`), nil, true, true, "",
		"what is left open belongs into an issue"},
}

func TestTree_TopLevel(t *testing.T) {
	entries, err := os.ReadDir(moduleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); !strings.HasPrefix(name, ".") && !slices.Contains(topLevel, name) {
			t.Errorf("%s stands at the top level, where only %v may", name, topLevel)
		}
	}
}

func TestTree_Lines(t *testing.T) {
	eachGoFile(t, func(name string, source []byte) {
		if lines := bytes.Count(source, []byte("\n")); lines > maxLines && !generated.Match(source) {
			t.Errorf("%s has %d lines, more than %d: where is the cut?", name, lines, maxLines)
		}
	})
}

func TestTree_Bans(t *testing.T) {
	eachGoFile(t, func(name string, source []byte) {
		for _, b := range bans {
			for _, line := range b.find(name, source) {
				t.Errorf("%s: %s: %s", name, strings.TrimSpace(line), b.why)
			}
		}
	})
}

// find returns the lines of a file that the ban forbids.
func (b ban) find(name string, source []byte) []string {
	applies := b.code
	if strings.HasSuffix(name, "_test.go") {
		applies = b.tests
	}
	if !applies || b.except != "" && strings.HasPrefix(name, b.except) || generated.Match(source) {
		return nil
	}
	var found []string
	for line := range strings.Lines(string(source)) {
		if b.pattern.MatchString(line) && (b.unless == nil || !b.unless.MatchString(line)) {
			found = append(found, line)
		}
	}
	return found
}

// TestBans shows for each ban what it finds and what it leaves alone. The lines are put together here, so that
// this file stays clean itself.
func TestBans(t *testing.T) {
	for _, c := range []struct {
		ban, file, line string
		found           bool
	}{
		{"Skip", "backend/host/dial_test.go", "t." + "Skip(\"no root\")", true},
		{"Skip", "backend/host/dial_test.go", "b." + "SkipNow()", true},
		{"Skip", "fstests/harness/sshd.go", "t." + "Skipf(\"no %s\", x)", true},
		{"Skip", "fstests/require/require.go", "t." + "Skipf(\"no %s\", x)", false},
		{"Skip", "helper/wire/codec.go", "d.SkipBytes(4)", false},
		{"ErrorText", "helper/helper.go", "if err.Error()" + " == \"EOF\" {", true},
		{"ErrorText", "helper/helper.go", "if strings.Contains(err." + "Error(), \"busy\") {", true},
		{"ErrorText", "helper/helper.go", "if strings.HasPrefix(err." + "Error(), \"busy\") {", true},
		{"ErrorText", "helper/helper.go", "text := err.Error()", false},
		{"ErrorText", "helper/helper_test.go", "if err.Error()" + " == \"EOF\" {", false},
		{"Panic", "helper/helper.go", "panic" + "(err)", true},
		{"Panic", "helper/helper.go", "panic" + "(\"invalid kind\")", true},
		{"Panic", "helper/helper.go", "panic(\"internal error: no such kind\")", false},
		{"Panic", "helper/helper.go", "panic(fmt.Sprintf(\"internal error: kind %d\", k))", false},
		{"Open", "helper/helper.go", "// TO" + "DO: later", true},
		{"Open", "helper/helper.go", "context.TO" + "DO()", true},
		{"Open", "helper/helper.go", "012345678XX" + "X", false},
	} {
		at := slices.IndexFunc(bans, func(b ban) bool { return b.name == c.ban })
		if found := bans[at].find(c.file, []byte(c.line+"\n")) != nil; found != c.found {
			t.Errorf("ban %s finds %q in %s: %v, want %v", c.ban, c.line, c.file, found, c.found)
		}
	}
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := harness.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// eachGoFile calls f with the source of every Go file and its name below the module root, with slashes.
func eachGoFile(t *testing.T, f func(name string, source []byte)) {
	t.Helper()
	root := moduleRoot(t)
	files := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "bin") {
			return filepath.SkipDir
		}
		if entry.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		files++
		f(filepath.ToSlash(name), source)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Fatalf("only %d Go files found below %s", files, root)
	}
}
