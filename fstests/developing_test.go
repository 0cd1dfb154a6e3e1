package fstests

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	codeSpan    = regexp.MustCompile("`([^`\n]+)`")
	repoPath    = regexp.MustCompile(`^(?:(?:backend|cmd|docs|fstests|helper|\.ci)(?:/[\w-]+(?:\.\w+)*)+|README\.md|CHANGELOG\.md)$`)
	testCommand = regexp.MustCompile("go (?:test|vet|run|build) [^`\n]*")
	packageArg  = regexp.MustCompile(`(?:^| )(\./[\w./-]+)`)
	testNames   = regexp.MustCompile(`-(?:run|fuzz|bench) '?\^?([\w/|]+)\$?'?`)
	declared    = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	testWord    = regexp.MustCompile(`^Test[A-Z]\w+$`)
)

// What the page for developers names is there: files, packages, and in these the tests, fuzz targets and benchmarks.
func TestDeveloping(t *testing.T) {
	page := readPage(t, "../docs/developing.md")
	paths, tests := 0, 0
	for _, span := range codeSpan.FindAllStringSubmatch(page, -1) {
		switch name := span[1]; {
		case repoPath.MatchString(name):
			paths++
			if _, err := os.Stat(filepath.Join("..", name)); err != nil {
				t.Error(err)
			}
		case testWord.MatchString(name) && !declares(t, []string{"../backend", "../fstests", "../helper"}, name):
			t.Errorf("no test is called %s", name)
		}
	}
	for _, command := range testCommand.FindAllString(page, -1) {
		var dirs []string
		for _, arg := range packageArg.FindAllStringSubmatch(command, -1) {
			dir := filepath.Join("..", strings.TrimSuffix(arg[1], "..."))
			if _, err := os.Stat(dir); err != nil {
				t.Errorf("%s: %v", command, err)
			}
			dirs = append(dirs, dir)
		}
		for _, names := range testNames.FindAllStringSubmatch(command, -1) {
			for name := range strings.SplitSeq(names[1], "|") {
				name, _, _ = strings.Cut(name, "/")
				tests++
				if !declares(t, dirs, name) {
					t.Errorf("%s: there is no %s", command, name)
				}
			}
		}
	}
	if paths < 25 || tests < 10 {
		t.Errorf("only %d files and %d tests were found on the page", paths, tests)
	}
}

// declares reports whether a test, fuzz target or benchmark whose name begins so is in or below one of the folders.
func declares(t *testing.T, dirs []string, name string) bool {
	t.Helper()
	found := false
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err != nil || found || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, f := range declared.FindAllSubmatch(text, -1) {
				found = found || strings.HasPrefix(string(f[1]), name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}
