package fstests

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxColumns is how long a line of prose may be.
const maxColumns = 120

// unwrapped are parts of pages that programs write, from a text to another one or to the end.
var unwrapped = []struct{ page, from, to string }{
	{"blockdev.md", firstTitle, ""},                       // TestDocs_Options
	{"reliability.md", "<!-- generated:", "<!-- end -->"}, // TestReliabilityPage
	{"benchmarks.md", "<!-- written by", "<!-- end -->"},  // fstests/bench/report
}

// TestPages_Columns checks that prose is wrapped: lines of text that are longer than they are read with ease. Blocks
// may have longer ones, and so may a line of one word or two.
func TestPages_Columns(t *testing.T) {
	for _, file := range append(pageFiles(t), "../README.md", "../CHANGELOG.md") {
		text := readPage(t, file)
		for _, part := range unwrapped {
			if part.page == filepath.Base(file) {
				before, rest, found := strings.Cut(text, part.from)
				_, after, ends := strings.Cut(rest, part.to)
				if !found || !ends {
					t.Errorf("%s has no part from %q to %q", file, part.from, part.to)
				}
				if text = before; part.to != "" {
					text += after
				}
			}
		}
		for _, line := range longLines(text) {
			t.Errorf("%s: more than %d columns: %s", file, maxColumns, line)
		}
	}
}

// unbroken are the beginnings of lines that are as long as they have to be: rows of tables, comments, headings, pictures.
var unbroken = []string{"|", "<!--", "#", "!["}

// longLines are the lines of prose in a text that are too long and could be broken.
func longLines(text string) (long []string) {
	inBlock := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		start := strings.TrimLeft(line, " ")
		if strings.HasPrefix(start, "```") {
			inBlock = !inBlock
			continue
		}
		free := inBlock || slices.ContainsFunc(unbroken, func(mark string) bool { return strings.HasPrefix(start, mark) })
		if !free && utf8.RuneCountInString(line) > maxColumns && len(strings.Fields(line)) > 2 {
			long = append(long, line)
		}
	}
	return long
}

func TestLongLines(t *testing.T) {
	long := strings.Repeat("word ", 30)
	for _, c := range []struct {
		text string
		want int
	}{
		{"short\n" + long + "\nshort\n", 1},
		{"- " + long + "\n  " + long + "\n", 2},
		{"| " + long + " |\n# " + long + "\n<!-- run: " + long + "-->\n", 0},
		{"```text\n" + long + "\n```\n" + long + "\n", 1},
		{"  ```text\n  " + long + "\n  ```\n", 0},
		{"[x]: https://example.com/" + strings.Repeat("x", maxColumns) + "\n", 0},
		{strings.Repeat("ä", maxColumns) + "\n", 0},
	} {
		if got := longLines(c.text); len(got) != c.want {
			t.Errorf("%.20q: %d lines, want %d", c.text, len(got), c.want)
		}
	}
}
