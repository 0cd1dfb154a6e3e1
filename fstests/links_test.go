package fstests

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	pageLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	pageHeading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	headingLink = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	notInAnchor = regexp.MustCompile(`[^\pL\pN_ -]`)
)

// Each link of a page to another page, or to a heading, leads there.
func TestPages_Links(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no pages found: %v", err)
	}
	files = append(files, "../README.md")
	anchors := map[string]bool{} // of all pages, as page#anchor
	for _, file := range files {
		for _, h := range pageHeading.FindAllStringSubmatch(readPage(t, file), -1) {
			anchors[file+"#"+anchor(h[1])] = true
		}
	}
	count := 0
	for _, file := range files {
		for _, link := range pageLink.FindAllStringSubmatch(readPage(t, file), -1) {
			name, heading, _ := strings.Cut(link[1], "#")
			if strings.Contains(name, "://") {
				continue
			}
			count++
			target := file
			if name != "" {
				target = filepath.Join(filepath.Dir(file), name)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", file, err)
			} else if heading != "" && strings.HasSuffix(target, ".md") && !anchors[target+"#"+heading] {
				t.Errorf("%s: %s has no heading #%s", file, target, heading)
			}
		}
	}
	if count < 100 {
		t.Errorf("only %d links found", count)
	}
}

// anchor is what sites make of a heading.
func anchor(heading string) string {
	heading = headingLink.ReplaceAllString(heading, "$1")
	heading = notInAnchor.ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(heading, " ", "-")
}
