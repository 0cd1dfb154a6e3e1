package pages

import (
	"regexp"
	"slices"
	"strings"
)

// What varies from run to run, and with the size of the devices that a test can afford.
var (
	// folded is where blocksync goes on with a line that was too long, which depends on its numbers.
	folded   = regexp.MustCompile(`\n    (\S)`)
	stamp    = regexp.MustCompile(`(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d `)
	duration = regexp.MustCompile(`\b(?:\d+(?:\.\d+)?(?:ms|µs|h|m|s|d))+\b|\b\d+:\d\d(?::\d\d)?\b`)
	uuid     = regexp.MustCompile(`\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`)
	sum      = regexp.MustCompile(`\b(?:\d+\.)?[0-9a-f]{8,}\b`) // or a fraction with so many digits
	number   = regexp.MustCompile(`\d+(?:[.,:]\d+)*(?: ?[KMGTP]i?B?(?:yte)?\b|%| B\b| Bytes?\b)?`)
	nought   = regexp.MustCompile(`^[0.,:]+([^0-9.,:]|$)`)
)

// plainOutput replaces times by a word, and sizes, rates, sums and other numbers by another. Zero stays, since it tells
// whether something was done.
func plainOutput(s string) []string {
	s = folded.ReplaceAllString(s, " $1")
	s = stamp.ReplaceAllString(s, "")
	s = uuid.ReplaceAllString(s, "N")
	s = sum.ReplaceAllString(s, "N")
	s = duration.ReplaceAllString(s, "<time>")
	s = number.ReplaceAllStringFunc(s, func(n string) string {
		if nought.MatchString(n) {
			return "0"
		}
		return "N"
	})
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// Shows returns the first line of want that got has not, or an empty string: got must have the lines in that order,
// with any others between them. "..." in a line stands for anything.
func Shows(got, want string) string {
	lines := plainOutput(got)
	for _, line := range plainOutput(want) {
		if line == "..." || line == "…" {
			continue
		}
		pattern := strings.NewReplacer(`\.\.\.`, ".*", "…", ".*").Replace(regexp.QuoteMeta(line))
		re := regexp.MustCompile("^" + pattern + "$")
		i := slices.IndexFunc(lines, re.MatchString)
		if i < 0 {
			return line
		}
		lines = lines[i+1:]
	}
	return ""
}
