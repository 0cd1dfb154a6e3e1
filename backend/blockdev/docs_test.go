package blockdev

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rclone/rclone/fs"
)

// manual is the user manual, which must name every option as it is registered.
const manual = "../../docs/blockdev.md"

var (
	optionHeading = regexp.MustCompile(`(?m)^#### --blockdev-(\S+)\n\n(.+)\n`)
	optionFact    = regexp.MustCompile(`(?m)^- (Config|Env Var|Type|Default|Example): +(\S.*)$`)
)

// documented is what the manual says of one option.
type documented struct {
	advanced bool
	summary  string // the first line of the text
	facts    map[string]string
}

// readManual returns the options of the manual by their names in the
// configuration file.
func readManual(t *testing.T) map[string]documented {
	t.Helper()
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	advanced := strings.Index(string(text), "\n### Advanced options\n")
	if advanced < 0 {
		t.Fatalf("%s has no section \"Advanced options\"", manual)
	}
	found := map[string]documented{}
	headings := optionHeading.FindAllSubmatchIndex(text, -1)
	for i, at := range headings {
		end := len(text)
		if i+1 < len(headings) {
			end = headings[i+1][0]
		}
		name := strings.ReplaceAll(string(text[at[2]:at[3]]), "-", "_")
		d := documented{at[0] > advanced, string(text[at[4]:at[5]]), map[string]string{}}
		for _, fact := range optionFact.FindAllSubmatch(text[at[0]:end], -1) {
			d.facts[string(fact[1])] = string(fact[2])
		}
		if _, twice := found[name]; twice {
			t.Errorf("%s is documented twice", name)
		}
		found[name] = d
	}
	return found
}

func TestDocs_Options(t *testing.T) {
	info, err := fs.Find(Name)
	if err != nil {
		t.Fatal(err)
	}
	found := readManual(t)
	for i := range info.Options {
		o := &info.Options[i]
		d, ok := found[o.Name]
		if !ok {
			t.Errorf("%s is not in the manual", o.Name)
			continue
		}
		delete(found, o.Name)
		preset := o.String()
		if preset == "" {
			preset = "none"
		}
		summary, _, _ := strings.Cut(o.Help, "\n")
		for _, c := range []struct{ what, got, want string }{
			{"name", d.facts["Config"], o.Name},
			{"environment variable", d.facts["Env Var"], o.EnvVarName(info.Prefix)},
			{"type", d.facts["Type"], o.Type()},
			{"default", d.facts["Default"], preset},
			{"first line", d.summary, summary},
		} {
			if c.got != c.want {
				t.Errorf("%s: the %s in the manual is %q, registered is %q", o.Name, c.what, c.got, c.want)
			}
		}
		if d.advanced != o.Advanced {
			t.Errorf("%s: under advanced options in the manual is %v, registered is %v", o.Name, d.advanced, o.Advanced)
		}
		if d.facts["Example"] == "" {
			t.Errorf("%s has no example in the manual", o.Name)
		}
	}
	for name := range found {
		t.Errorf("%s is in the manual and not registered", name)
	}
}
