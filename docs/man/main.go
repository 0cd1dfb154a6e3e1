// Command man makes the manual pages from the pages of docs: go run ./docs/man DIR. A file NAME.SECTION.md.tmpl says
// which parts of which page become which part of NAME(SECTION), so that nothing is written twice.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

func main() { os.Exit(run(os.Args[1:], os.Stderr)) }

func run(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("man", flag.ContinueOnError)
	flags.SetOutput(stderr)
	version := flags.String("version", "", "`version` of the program, for the bottom of the pages")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: man [-version VERSION] DIR")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		flags.Usage()
		return 2
	}
	if err := write(flags.Arg(0), *version); err != nil {
		fmt.Fprintln(stderr, "man:", err)
		return 1
	}
	return 0
}

// write makes all pages in dir, which is made where it does not exist.
func write(dir, version string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	day, err := date()
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(root, "docs", "man", "*.md.tmpl"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".md.tmpl")
		page, err := fillIn(root, file)
		if err != nil {
			return err
		}
		name, section, _ := strings.Cut(name, ".")
		title := fmt.Sprintf("%% %q %q %q %q %q\n", strings.ToUpper(name), section, day,
			strings.TrimSpace("rclone-blockdev "+version), "Block devices over SSH")
		roff := md2man.Render([]byte(title + page))
		if err := os.WriteFile(filepath.Join(dir, name+"."+section), finish(roff), 0o666); err != nil {
			return err
		}
	}
	return nil
}

// fillIn fills in one page. Its functions are those of pages.go; a part that is not there is an error.
func fillIn(root, file string) (string, error) {
	t, err := template.New(filepath.Base(file)).Funcs(template.FuncMap{
		"section": func(page, title string) (string, error) { return section(root, page, title) },
		"intro":   func(page string) (string, error) { return section(root, page, "") },
		"options": func() (string, error) { return options(root) },
		"only":    only, "items": items, "prose": prose, "code": code,
	}).ParseFiles(file)
	if err != nil {
		return "", err
	}
	var page bytes.Buffer
	err = t.Execute(&page, nil)
	return page.String(), err
}

// finish mends what the renderer leaves: mandoc and groff warn about paragraphs that nothing is in, and examples stand
// like text, without space before them.
func finish(roff []byte) []byte {
	var lines []string
	for line := range strings.Lines(string(roff)) {
		line = strings.TrimRight(line, " \n")
		if line == "" && !inCode(lines) {
			continue // a blank line is vertical space in roff, where macros say so already
		}
		last := len(lines) - 1
		if last >= 0 && lines[last] == ".PP" && strings.HasPrefix(line, ".") && !strings.HasPrefix(line, ".br") {
			lines = lines[:last]
		}
		if line == ".PP" && last >= 0 && (strings.HasPrefix(lines[last], ".SH ") || strings.HasPrefix(lines[last], ".SS ")) {
			continue
		}
		switch {
		case line == ".EX" && last >= 0 && !strings.HasPrefix(lines[last], ".S"):
			lines = append(lines, ".sp", ".RS 4", line)
		case line == ".EX":
			lines = append(lines, ".RS 4", line)
		case line == ".EE":
			lines = append(lines, line, ".RE")
		default:
			lines = append(lines, line)
		}
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// inCode tells whether the next line belongs to an example.
func inCode(lines []string) bool {
	for i := len(lines) - 1; i >= 0; i-- {
		switch lines[i] {
		case ".EX":
			return true
		case ".EE":
			return false
		}
	}
	return false
}

// date is that of SOURCE_DATE_EPOCH, so that a release can be made again, and else today's.
func date() (string, error) {
	now := time.Now()
	if seconds := os.Getenv("SOURCE_DATE_EPOCH"); seconds != "" {
		n, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil {
			return "", fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		now = time.Unix(n, 0)
	}
	return now.UTC().Format(time.DateOnly), nil
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("run it in the source tree: go list: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
