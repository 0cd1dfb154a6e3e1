package fstests

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

const reliabilityPage = "../docs/reliability.md"

// recorded makes TestReliabilityPage ask for a record in which each fault was played.
var recorded = flag.Bool("recorded", false, "fail unless the file that "+harness.RecordVariable+" names has every fault of docs/reliability.md")

// Between these the page is generated.
const (
	tablesStart = "<!-- generated: go test ./fstests -run TestReliabilityPage -update -->\n"
	tablesEnd   = "<!-- end -->\n"
)

// tally is what came of a fault.
type tally struct {
	count, failed int64
	shows         []string
}

// trials reads what was recorded.
func trials(t *testing.T) map[string]*tally {
	t.Helper()
	all := map[string]*tally{}
	path := os.Getenv(harness.RecordVariable)
	if path == "" {
		return all
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%s: %v", harness.RecordVariable, err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		var trial harness.Trial
		if err := json.Unmarshal(lines.Bytes(), &trial); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		sum := all[trial.Fault]
		if sum == nil {
			sum = new(tally)
			all[trial.Fault] = sum
		}
		sum.count += trial.Count
		if trial.Failed {
			sum.failed += max(trial.Count, 1)
		}
		if trial.Shows != "" {
			sum.shows = append(sum.shows, trial.Shows)
		}
	}
	return all
}

// tables is the generated part of the page.
func tables(all map[string]*tally) string {
	var b strings.Builder
	for _, group := range harness.Groups {
		fmt.Fprintf(&b, "\n## %s\n\n| played | times | failed | what must hold | test |\n| --- | ---: | ---: | --- | --- |\n", group)
		var shows []string
		for _, f := range harness.Faults {
			if f.Group != group {
				continue
			}
			sum := all[f.Name]
			if sum == nil {
				sum = new(tally)
			}
			test, folder, _ := strings.Cut(f.Test, " ")
			fmt.Fprintf(&b, "| %s | %s | %d | %s | `%s` in `%s` |\n", f.Played, grouped(sum.count), sum.failed, f.Holds, test, folder)
			for _, s := range sum.shows {
				shows = append(shows, folded("- "+f.Played+": "+s, 120))
			}
		}
		if len(shows) > 0 {
			fmt.Fprintf(&b, "\n%s", strings.Join(shows, ""))
		}
	}
	return b.String() + "\n"
}

// folded breaks the text of a list item into lines of at most width bytes.
func folded(text string, width int) string {
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case at+1+len(word) > width:
			b.WriteString("\n ")
			at = 1
			fallthrough
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += len(word)
	}
	return b.String() + "\n"
}

// grouped writes a large number with spaces between thousands.
func grouped(n int64) string {
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + " " + text[at:]
	}
	return text
}

// counts are the numbers of a table row, which differ from run to run.
var counts = regexp.MustCompile(`\| [0-9 ]+ \| [0-9]+ \|`)

// faultRows are the rows of tables without their numbers.
func faultRows(text string) (rows []string) {
	for line := range strings.Lines(text) {
		if counts.MatchString(line) {
			rows = append(rows, counts.ReplaceAllString(strings.TrimSpace(line), "|"))
		}
	}
	return rows
}

// TestReliabilityPage checks that the page lists the faults that the tests play, all of them and no others, and that
// each has its test. With -update it writes what a run has recorded into the page.
func TestReliabilityPage(t *testing.T) {
	text, err := os.ReadFile(reliabilityPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), tablesStart)
	old, after, closed := strings.Cut(rest, tablesEnd)
	if !ok || !closed {
		t.Fatalf("%s has no generated part", reliabilityPage)
	}
	all := trials(t)
	fresh := tables(all)
	if *update && len(all) > 0 {
		if err := os.WriteFile(reliabilityPage, []byte(before+tablesStart+fresh+tablesEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		old = fresh
	}
	if got, want := strings.Join(faultRows(old), "\n"), strings.Join(faultRows(fresh), "\n"); got != want {
		t.Errorf("%s does not list what harness.Faults does: run the tests with %s=FILE, then this one with -update: %s",
			reliabilityPage, harness.RecordVariable, firstDifference(got, want))
	}
	for _, f := range harness.Faults {
		if sum := all[f.Name]; *recorded && (sum == nil || sum.count == 0 || sum.failed > 0) {
			t.Errorf("%s was not tried in the run that was recorded, or failed: %+v", f.Name, sum)
		}
		test, folder, _ := strings.Cut(f.Test, " ")
		if !hasTest(t, "../"+folder, test) {
			t.Errorf("%s: there is no %s in %s", f.Name, test, folder)
		}
	}
}

// hasTest tells whether a folder has a test of that name.
func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		if b, err := os.ReadFile(folder + "/" + f.Name()); err == nil && strings.Contains(string(b), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}
