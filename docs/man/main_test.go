package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blocksync"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/tool"
)

// pages are all that there should be.
var pages = []string{"blockdev-helper.1", "rclone-blockdev-blocksync.1", "rclone-blockdev.7"}

// made returns the directory of the pages.
func made(t *testing.T) string {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	dir := filepath.Join(t.TempDir(), "man")
	var stderr bytes.Buffer
	if code := run([]string{"-version", "1.2.3", dir}, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	return dir
}

func read(t *testing.T, dir, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestPages(t *testing.T) {
	dir := made(t)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != len(pages) {
		t.Fatalf("there are %v, want %v", files, pages)
	}
	left := regexp.MustCompile(`\]\(|\{\{|<no value>|^\|[- ]|#+ |<!--`)
	for _, page := range pages {
		text := read(t, dir, page)
		if title := text[:strings.Index(text, "\n.SH")]; !strings.Contains(title, `"2023-11-14" "rclone-blockdev 1.2.3"`) {
			t.Errorf("%s begins with %q", page, title)
		}
		eachLine(text, func(line string, _ bool) {
			if found := left.FindString(line); found != "" && !strings.Contains(line, "# ") {
				t.Errorf("%s: %q is left of markdown in: %s", page, found, line)
			}
		})
		var chapters []string
		for _, m := range regexp.MustCompile(`(?m)^\.SH (.*)$`).FindAllStringSubmatch(text, -1) {
			chapters = append(chapters, m[1])
		}
		at := -1
		for _, want := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"} {
			next := slices.Index(chapters, want)
			if next <= at {
				t.Errorf("%s: %s is missing or in the wrong place: %q", page, want, chapters)
			}
			at = next
		}
		if again := read(t, made(t), page); again != text {
			t.Errorf("%s is another one the second time", page)
		}
	}
}

// What readers of manual pages say of them.
func TestPages_Lint(t *testing.T) {
	require.Need(t, require.Mandoc, require.Man)
	dir := made(t)
	for _, page := range pages {
		path := filepath.Join(dir, page)
		if out, err := exec.Command("mandoc", "-T", "lint", "-W", "warning", path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("mandoc: %v\n%s", err, out)
		}
		cmd := exec.Command("man", "--warnings", "-l", path)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=80", "MANROFFOPT=", "PAGER=cat")
		cmd.Stdout = io.Discard
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil || stderr.Len() > 0 {
			t.Errorf("man %s: %v\n%s", page, err, stderr.String())
		}
	}
}

// flagsOf are the flags that are explained in a list of a page, by their long names, or short ones without.
func flagsOf(text string) []string {
	_, options, _ := strings.Cut(text, "\n.SH OPTIONS\n")
	options, _, _ = strings.Cut(options, "\n.SH ")
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^\.TP\n(.*)$`).FindAllStringSubmatch(options, -1) {
		term := strings.NewReplacer(`\-`, "-", `\fB`, "", `\fR`, "", `\fP`, "").Replace(m[1])
		for word := range strings.FieldsSeq(strings.ReplaceAll(term, ",", "")) {
			if strings.HasPrefix(word, "-") {
				names = append(names, strings.TrimLeft(word, "-"))
			}
		}
	}
	return names
}

// Every flag of the command is explained, and nothing is that is no flag of it or of rclone.
func TestPages_Blocksync(t *testing.T) {
	documented := flagsOf(read(t, made(t), "rclone-blockdev-blocksync.1"))
	ofRclone := []string{"ignore-size", "dry-run", "n", "quiet", "q"}
	command := blocksync.Command()
	command.Flags().VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(documented, f.Name) {
			t.Errorf("--%s is not in the page", f.Name)
		}
	})
	for _, name := range documented {
		if command.Flags().Lookup(name) == nil && !slices.Contains(ofRclone, name) {
			t.Errorf("%s is in the page, and no flag", name)
		}
	}
	if len(documented) < 15 {
		t.Errorf("only %q are explained", documented)
	}
}

// Every command of the helper and every flag of its commands is in the page.
func TestPages_Helper(t *testing.T) {
	text := read(t, made(t), "blockdev-helper.1")
	documented := flagsOf(text)
	synopsis := strings.NewReplacer(`\fB`, "", `\fP`, "", `\fI`, "", `\-`, "-", "[", "", "]", "").Replace(text)
	commands := regexp.MustCompile(`(?m)^  blockdev-helper (\S+) \[flags\] (.*)$`).FindAllStringSubmatch(tool.Commands(), -1)
	if len(commands) < 5 {
		t.Fatalf("the list of commands is not as expected:\n%s", tool.Commands())
	}
	for _, c := range commands {
		line := regexp.MustCompile(`(?m)^blockdev-helper ` + c[1] + ` FLAGS (-o FILE )?` + c[2] + `$`)
		if !line.MatchString(synopsis) {
			t.Errorf("the synopsis lacks %s %s", c[1], c[2])
		}
		help, _ := tool.Help(c[1])
		_, help, _ = strings.Cut(help, "\nFlags:\n")
		help, _, _ = strings.Cut(help, "\n\n")
		for _, flag := range regexp.MustCompile(`(?m)^  --?([a-z-]+)`).FindAllStringSubmatch(help, -1) {
			if !slices.Contains(documented, flag[1]) {
				t.Errorf("%s: the flag %s is not in the page, which has %q", c[1], flag[1], documented)
			}
		}
	}
}

func TestPages_Err(t *testing.T) {
	for _, args := range [][]string{{}, {"a", "b"}, {"-nonsense", "a"}} {
		if code := run(args, io.Discard); code != 2 {
			t.Errorf("%q: exit code %d, want 2", args, code)
		}
	}
	if _, err := section("../..", "helper.md", "No such chapter"); err == nil {
		t.Error("a chapter that is not there was found")
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if code := run([]string{t.TempDir()}, io.Discard); code != 1 {
		t.Errorf("exit code %d with a wrong SOURCE_DATE_EPOCH", code)
	}
}

func TestText(t *testing.T) {
	table := "a\n\n| A | B | C |\n|---|---|---|\n| `x` | one \\| two | off |\n| `y` | | 3 |\n"
	if got, want := items("{1}", "{2}[ ({3})]", table), "a\n\n`x`\n: one | two\n\n`y`\n:  (3)\n\n"; got != want {
		t.Errorf("items: %q, want %q", got, want)
	}
	links := "see [`a\nb`](x.md#y), [c](#d), [e.md](e.md), [f](https://g)\n```\n[a](b)\n```\n"
	if got, want := plain(links), "see `a\nb` (x.md), c, e.md, f (https://g)\n```\n[a](b)\n```\n"; got != want {
		t.Errorf("plain: %q, want %q", got, want)
	}
}
