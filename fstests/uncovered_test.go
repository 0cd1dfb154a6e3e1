package fstests

import (
	"path/filepath"
	"strings"
	"testing"
)

// uncovered is the title of the last part of a page.
const uncovered = "## What this page does not cover"

// TestPages_Uncovered checks that every page ends with what it does not cover.
func TestPages_Uncovered(t *testing.T) {
	but := map[string]string{
		"README.md":     "a list of pages",
		"blockdev.md":   "has Limitations, and ends with what the program says of its options",
		"benchmarks.md": "says in each part what was not measured",
	}
	for _, file := range pageFiles(t) {
		if but[filepath.Base(file)] != "" {
			continue
		}
		_, last, found := strings.Cut(readPage(t, file), "\n"+uncovered+"\n")
		if !found || strings.Contains(last, "\n## ") || len(strings.Fields(last)) < 8 {
			t.Errorf("%s does not end with %q", file, uncovered)
		}
	}
}

// pageFiles are the pages of docs.
func pageFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d pages, %v", len(files), err)
	}
	return files
}
