// Command report runs the benchmarks of fstests/bench, or takes the output of an earlier run, and writes what came of
// them: a page with tables, the figures as JSON and CSV, and plots as SVG.
//
//	go run ./fstests/bench/report -size 1G -o DIR
//
// It measures nothing itself. With -docs it writes the page into docs/benchmarks.md, so that no figure there is copied
// by hand.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// settings are the flags.
type settings struct {
	sizes, scenarios, tools, rates, rtts []string
	count                                int
	source, target, overwrite            string
	input, out                           string
	docs                                 bool
}

// run is the program, from its arguments to its exit code.
func run(args []string, stdout, stderr io.Writer) int {
	s, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		err = report(s, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "report:", err)
		return 1
	}
	return 0
}

// list is a flag with values that are separated by commas.
type list struct{ to *[]string }

func (l list) String() string {
	if l.to == nil {
		return ""
	}
	return strings.Join(*l.to, ",")
}

func (l list) Set(text string) error {
	*l.to = strings.Split(text, ",")
	return nil
}

func parse(args []string, stderr io.Writer) (settings, error) {
	s := settings{
		sizes: []string{"1G"}, scenarios: []string{"changed-push", "far-push", "first-push"},
		tools: []string{"blockdev", "rsync", "rsync-4k", "blocksync-fast-16k", "bdsync-16k", "diskrsync", "cat"},
	}
	f := flag.NewFlagSet("report", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Var(list{&s.sizes}, "size", "size of the made-up image, such as 512M or 4G; several, with commas, are measured one after the other")
	f.Var(list{&s.sizes}, "sizes", "the same as -size")
	f.Var(list{&s.scenarios}, "scenarios", "what is measured: "+strings.Join(scenarioNames(), ", "))
	f.Var(list{&s.tools}, "tools", "tools to compare, as far as they are on PATH; also blockdev-ssh, blocksync-fast, bdsync, rblocksync3")
	f.Var(list{&s.rates}, "rates", "only these shares of changed blocks, in percent, of 0, 0.1, 1, 10, 50, 100")
	f.Var(list{&s.rtts}, "rtts", "only these round-trip times, in milliseconds, of 0, 10, 50, 100")
	f.IntVar(&s.count, "count", 3, "runs of each, of which the median is told")
	f.StringVar(&s.source, "source", "", "device or image to read in place of a made-up one")
	f.StringVar(&s.target, "target", "", "device or image of the same size to overwrite")
	f.StringVar(&s.overwrite, "overwrite", "", "the target once more: its content is lost")
	f.StringVar(&s.input, "input", "", "output of an earlier go test -bench to report on; nothing is run")
	f.StringVar(&s.out, "o", "", "folder for report.md, results.json, results.csv, output.txt and the plots")
	f.BoolVar(&s.docs, "docs", false, "write the marked part of docs/benchmarks.md, its plots, and docs/benchmarks.txt, which is the output")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	switch {
	case f.NArg() > 0:
		return s, fmt.Errorf("%q is not a flag", f.Arg(0))
	case s.out == "" && !s.docs:
		return s, errors.New("nowhere to write: name a folder by -o, or set -docs")
	case s.count < 1:
		return s, errors.New("-count must be at least 1")
	}
	return s, s.checkDevices()
}

// checkDevices refuses before anything is built; the benchmarks do so again.
func (s settings) checkDevices() error {
	switch {
	case (s.source == "") != (s.target == ""):
		return errors.New("-source and -target go together")
	case s.target != s.overwrite:
		return fmt.Errorf("the content of %q would be lost: say -overwrite %s", s.target, s.target)
	}
	return nil
}

// outputFile is what the benchmarks wrote.
const outputFile = "output.txt"

// report does what the flags ask for. A report is made of what there is even if a benchmark failed, but not for docs.
func report(s settings, progress io.Writer) error {
	text, failed := s.output(progress)
	if text == "" {
		return failed
	}
	name := s.input
	if name == "" {
		name = outputFile
	}
	r, err := read(text, name)
	if err != nil {
		return errors.Join(failed, err)
	}
	if s.out != "" {
		files := r.files()
		files[outputFile] = []byte(text)
		if err := writeAll(s.out, files); err != nil {
			return err
		}
	}
	if len(r.failed) > 0 {
		return fmt.Errorf("these failed, see what they wrote: %s", strings.Join(r.failed, ", "))
	}
	if failed == nil && s.docs {
		root, err := moduleRoot()
		if err != nil {
			return err
		}
		return r.intoDocs(filepath.Join(root, "docs"), text)
	}
	return failed
}

func writeAll(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o666); err != nil {
			return err
		}
	}
	return nil
}
