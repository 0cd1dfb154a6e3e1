package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var (
	heading  = regexp.MustCompile(`^(#+) (.*)$`)
	image    = regexp.MustCompile(`!\[[^\]]*\]\([^)]*\)|<img [^>]*>`)
	link     = regexp.MustCompile(`\[([^\[\]]+)\]\(([^()\s]+)\)`)
	remark   = regexp.MustCompile(`(?s) *<!--.*?-->\n?`)
	optional = regexp.MustCompile(`\[[^\[\]]*\]`)
	cellOf   = regexp.MustCompile(`\{(\d)\}`)
)

// section is what stands under a heading of a page, headings below it one level lower than "# DESCRIPTION". Without a
// title it is what stands before the first chapter. Links become words.
func section(root, page, title string) (string, error) {
	path := filepath.Join(root, "docs", page)
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	level := 0 // of the heading, 0 before it
	if title == "" {
		title = firstTitle(string(text))
	}
	eachLine(string(text), func(line string, code bool) {
		h := heading.FindStringSubmatch(line)
		switch {
		case h == nil || code:
			if level > 0 {
				b.WriteString(line + "\n")
			}
		case level == 0 && h[2] == title:
			level = len(h[1])
		case level == 1, level > 0 && len(h[1]) <= level:
			level = -1
		case level > 0:
			b.WriteString("## " + h[2] + "\n")
		}
	})
	out := strings.TrimSpace(plain(remark.ReplaceAllString(b.String(), "")))
	if out == "" {
		return "", fmt.Errorf("%s has no section %q", path, title)
	}
	return out + "\n", nil
}

func firstTitle(text string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "# ") {
			return strings.TrimSpace(line[2:])
		}
	}
	return ""
}

// eachLine calls f for each line, with whether it belongs to an example.
func eachLine(text string, f func(line string, code bool)) {
	code := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if fence := strings.HasPrefix(strings.TrimSpace(line), "```"); fence {
			f(line, true)
			code = !code
		} else {
			f(line, code)
		}
	}
}

// plain makes words of links: a page of docs is named behind the text, a place in the same page is only its text.
func plain(text string) string {
	var b, prose strings.Builder // prose is what has been seen since the last example: links may go on in the next line
	flush := func() {
		b.WriteString(link.ReplaceAllStringFunc(image.ReplaceAllString(prose.String(), ""), words))
		prose.Reset()
	}
	eachLine(text, func(line string, code bool) {
		if code {
			flush()
			b.WriteString(line + "\n")
			return
		}
		prose.WriteString(line + "\n")
	})
	flush()
	return b.String()
}

// words are those of one link.
func words(s string) string {
	text, target := link.FindStringSubmatch(s)[1], link.FindStringSubmatch(s)[2]
	file, _, _ := strings.Cut(filepath.Base(target), "#")
	switch {
	case strings.Contains(target, "://"):
		return text + " (" + target + ")"
	case strings.HasPrefix(target, "#"), strings.Contains(text, file):
		return text
	}
	return text + " (" + file + ")"
}

// only keeps what is not under one of the headings named.
func only(without, text string) string {
	var b strings.Builder
	leave := false
	eachLine(text, func(line string, code bool) {
		if h := heading.FindStringSubmatch(line); h != nil && !code {
			leave = strings.Contains("|"+without+"|", "|"+h[2]+"|")
		}
		if !leave {
			b.WriteString(line + "\n")
		}
	})
	return b.String()
}

// prose is a text without its examples, code its examples without the text.
func prose(text string) string { return parts(text, false) }

func code(text string) string { return parts(text, true) }

func parts(text string, examples bool) string {
	var b strings.Builder
	eachLine(text, func(line string, code bool) {
		if code == examples {
			b.WriteString(line + "\n")
		}
	})
	return b.String()
}

// items makes lists of the tables in a text, since a terminal is narrow. term and body are patterns in which {1} is the
// first cell; what stands in brackets is left out when one of its cells is empty, off or none.
func items(term, body, text string) string {
	var b strings.Builder
	row := 0 // of the table, 0 for none
	eachLine(text, func(line string, code bool) {
		if code || !strings.HasPrefix(line, "|") {
			row = 0
			b.WriteString(line + "\n")
			return
		}
		if row++; row > 2 { // behind the head and its rule
			cells := cells(line)
			fmt.Fprintf(&b, "%s\n: %s\n\n", fill(term, cells), fill(body, cells))
		}
	})
	return b.String()
}

// cells are those of a row of a table; a bar in them is written \|.
func cells(line string) []string {
	const bar = "\x00"
	line = strings.ReplaceAll(strings.Trim(line, "| "), `\|`, bar)
	var list []string
	for cell := range strings.SplitSeq(line, "|") {
		list = append(list, strings.TrimSpace(strings.ReplaceAll(cell, bar, "|")))
	}
	return list
}

func fill(pattern string, cells []string) string {
	put := func(s string) (filled string, empty bool) {
		filled = cellOf.ReplaceAllStringFunc(s, func(m string) string {
			if n := int(m[1] - '1'); n < len(cells) && !slices.Contains([]string{"", "off", "none"}, cells[n]) {
				return cells[n]
			}
			empty = true
			return ""
		})
		return filled, empty
	}
	pattern = optional.ReplaceAllStringFunc(pattern, func(s string) string {
		if filled, empty := put(s[1 : len(s)-1]); !empty {
			return filled
		}
		return ""
	})
	filled, _ := put(pattern)
	return filled
}

// options lists those of the backend: name, first paragraph, default.
func options(root string) (string, error) {
	var b strings.Builder
	for _, title := range []string{"Standard options", "Advanced options"} {
		text, err := section(root, "blockdev.md", title)
		if err != nil {
			return "", err
		}
		for block := range strings.SplitSeq("\n"+text, "\n## ") {
			name, rest, _ := strings.Cut(block, "\n\n")
			summary, rest, _ := strings.Cut(rest, "\n\n")
			if !strings.HasPrefix(name, "--") {
				continue
			}
			fmt.Fprintf(&b, "**%s**\n: %s", name, strings.ReplaceAll(summary, "\n", " "))
			if _, preset, ok := strings.Cut(rest, "- Default: "); ok {
				preset, _, _ = strings.Cut(preset, "\n")
				fmt.Fprintf(&b, " Default: %s.", strings.TrimSpace(preset))
			}
			b.WriteString("\n\n")
		}
	}
	return b.String(), nil
}
