package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Between these docs/benchmarks.md is written by this program.
const (
	docsStart = "<!-- written by go run ./fstests/bench/report -docs -->\n"
	docsEnd   = "<!-- end -->\n"
	docsPage  = "benchmarks.md"
	docsInput = "benchmarks.txt" // the output that the page is made of
	docsPlots = "bench-*.svg"
)

// docsFiles are the files of docs that the report makes, given the present page.
func (r *results) docsFiles(page, output string) (map[string][]byte, error) {
	before, rest, ok := strings.Cut(page, docsStart)
	_, after, closed := strings.Cut(rest, docsEnd)
	if !ok || !closed {
		return nil, fmt.Errorf("%s has no part between %q and %q to write into", docsPage, docsStart, docsEnd)
	}
	plots := r.plots()
	files := map[string][]byte{
		docsPage:  []byte(before + docsStart + "\n" + r.page(plots) + "\n" + docsEnd + after),
		docsInput: []byte(output),
	}
	for _, p := range plots {
		files[p.file] = p.svg
	}
	return files, nil
}

// intoDocs writes them and removes plots of an earlier report that this one does not have.
func (r *results) intoDocs(dir, output string) error {
	page, err := os.ReadFile(filepath.Join(dir, docsPage))
	if err != nil {
		return err
	}
	files, err := r.docsFiles(string(page), withoutNoise(output))
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, docsPlots))
	if err != nil {
		return err
	}
	for _, path := range old {
		if files[filepath.Base(path)] == nil {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return writeAll(dir, files)
}

// withoutNoise keeps the lines of the benchmark format.
func withoutNoise(output string) string {
	var b bytes.Buffer
	for line := range strings.Lines(output) {
		key, _, ok := strings.Cut(line, ": ")
		if strings.HasPrefix(line, "Benchmark") || ok && key == strings.ToLower(key) && !strings.ContainsAny(key, " \t") {
			b.WriteString(line)
		}
	}
	return b.String()
}
