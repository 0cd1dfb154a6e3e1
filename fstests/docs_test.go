package fstests

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// update makes TestDocs_Options write the option reference instead of comparing it, and TestReliabilityPage its page.
// The units and the examples of options, which rclone does not know, stay as they are.
var update = flag.Bool("update", false, "write the option reference of docs/blockdev.md, and what was recorded into docs/reliability.md")

const (
	manual     = "../docs/blockdev.md"
	firstTitle = "### Standard options\n"
)

var (
	optionBlock  = regexp.MustCompile(`(?ms)^#### --.*?\n\nProperties:\n\n- .*?\n\n`)
	optionName   = regexp.MustCompile(`(?m)^- Config: +(\S+)$`)
	optionType   = regexp.MustCompile(`(?m)^- Type: .*\n`)
	emptyDefault = regexp.MustCompile(`(?m)^- (?:Required: +false|Default: *)$`)
	defaultLine  = regexp.MustCompile(`(?m)^- Default: .*\n`)
	handWritten  = regexp.MustCompile(`(?m)^- (Unit|Example): +(\S.*)\n`)
	// exampleText is the place of an example in a text for the command line: the manual has it below.
	exampleText = regexp.MustCompile(`(?m)\n\n(?:E\.g\. ".*"\.$|Examples?:\n(?:\n    .*)+\n?)`)
	sectionText = regexp.MustCompile(`(?m)^Here are the .* options specific to .*\n\n`)
	siteLink    = regexp.MustCompile(`\]\((/[^)]*)\)`)
)

// TestDocs_Options checks that the option reference of the manual is what the program says of its options, and
// that each of them has a unit, a default and an example there.
func TestDocs_Options(t *testing.T) {
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	start := strings.Index(string(text), firstTitle)
	if start < 0 {
		t.Fatalf("%s has no section %q", manual, firstTitle)
	}
	want := reference(t, harness.Rclone(t, "help", "backend", "blockdev").Stdout, handWrittenFacts(string(text[start:])))
	if got := string(text[start:]); got == want {
		return
	} else if *update {
		if err := os.WriteFile(manual, []byte(string(text[:start])+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	} else {
		t.Errorf("the option reference of %s is not what the program says (go test ./fstests -run TestDocs_Options -update writes it): %s",
			manual, firstDifference(got, want))
	}
}

// handWrittenFacts are the units and examples of a reference, by the name of the option.
func handWrittenFacts(text string) map[string]map[string]string {
	all := map[string]map[string]string{}
	for block := range strings.SplitSeq(text, "\n#### ") {
		name := optionName.FindStringSubmatch(block)
		if name == nil {
			continue
		}
		facts := map[string]string{}
		for _, fact := range handWritten.FindAllStringSubmatch(block+"\n", -1) {
			facts[fact[1]] = fact[2]
		}
		all[name[1]] = facts
	}
	return all
}

// reference is the option reference of the manual, made of what "help backend" prints.
func reference(t *testing.T, help string, facts map[string]map[string]string) string {
	t.Helper()
	if !strings.HasPrefix(help, firstTitle) || len(optionBlock.FindAllString(help, -1)) < 20 {
		t.Fatalf("the help of the backend is not as expected:\n%s", help)
	}
	help = sectionText.ReplaceAllString(help, "")
	help, _, _ = strings.Cut(help+"\n", "### Metadata\n") // the blank line before it ends the last option
	text := optionBlock.ReplaceAllStringFunc(help, func(block string) string {
		name := optionName.FindStringSubmatch(block)[1]
		example, unit := facts[name]["Example"], facts[name]["Unit"]
		if example == "" || unit == "" {
			t.Errorf("%s has no unit or no example in %s: write a line \"- Unit:\" below the type and \"- Example:\" below the default", name, manual)
		}
		if given := exampleText.FindString(block); given != "" && !strings.Contains(given, strings.Trim(example, "`")) {
			t.Errorf("%s: the example in %s is %s, the help says %q", name, manual, example, given)
		}
		block = exampleText.ReplaceAllString(block, "")
		block = strings.Replace(block, "\n\n\nProperties", "\n\nProperties", 1)
		block = emptyDefault.ReplaceAllString(block, "- Default:     none")
		block = siteLink.ReplaceAllString(block, "](https://rclone.org$1)")
		block = optionType.ReplaceAllString(block, "$0- Unit:        "+escape(unit)+"\n")
		return defaultLine.ReplaceAllString(block, "$0- Example:     "+escape(example)+"\n")
	})
	return strings.TrimRight(text, "\n") + "\n"
}

// escape protects a text in a replacement.
func escape(s string) string { return strings.ReplaceAll(s, "$", "$$") }

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d is %q, want %q", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("it has %d lines, want %d", len(g), len(w))
}

// What rclone writes for its own documentation, and what it tells other programs, has the options of the manual:
// their names, environment variables, types, defaults and first lines.
func TestDocs_Generated(t *testing.T) {
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{} // blocks by name
	for block := range strings.SplitSeq(string(text), "\n#### ") {
		if name := optionName.FindStringSubmatch(block); name != nil {
			documented[name[1]] = block
		}
	}
	dir := t.TempDir()
	if r := harness.Rclone(t, "gendocs", dir); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	flags, err := os.ReadFile(filepath.Join(dir, "flags.md"))
	if err != nil {
		t.Fatal(err)
	}
	var providers []struct {
		Name    string
		Options []struct{ Name, Help, Type, DefaultStr string }
	}
	if err := json.Unmarshal([]byte(harness.Rclone(t, "config", "providers").Stdout), &providers); err != nil {
		t.Fatal(err)
	}
	for _, p := range providers {
		if p.Name != "blockdev" {
			continue
		}
		if len(p.Options) != len(documented) || bytes.Count(flags, []byte("\n      --blockdev-")) != len(documented) {
			t.Errorf("%d options are documented, \"config providers\" has %d", len(documented), len(p.Options))
		}
		for _, o := range p.Options {
			block, ok := documented[o.Name]
			summary, _, _ := strings.Cut(o.Help, "\n")
			hyphens := strings.ReplaceAll(o.Name, "_", "-")
			preset := o.DefaultStr
			if preset == "" {
				preset = "none"
			}
			for _, want := range []string{
				"--blockdev-" + hyphens + "\n\n" + summary + "\n",
				"\n- Env Var:     RCLONE_BLOCKDEV_" + strings.ToUpper(o.Name) + "\n",
				"\n- Type:        " + o.Type + "\n", "\n- Default:     " + preset + "\n",
			} {
				if !ok || !strings.Contains(block, want) {
					t.Errorf("%s: the manual lacks %q", o.Name, want)
				}
			}
			line := regexp.MustCompile(`(?m)^ +--blockdev-` + hyphens + ` .*` + regexp.QuoteMeta(strings.TrimSuffix(summary, ".")) + `.*$`)
			if found := line.Find(flags); found == nil || preset != "none" && preset != "false" && preset != "0" && !bytes.Contains(found, []byte("(default "+preset+")")) {
				t.Errorf("%s: flags.md of gendocs has %q", o.Name, found)
			}
		}
		return
	}
	t.Error("\"config providers\" does not know the backend")
}
