package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

var update = flag.Bool("update", false, "write testdata/golden instead of comparing with it")

const recorded = "testdata/output.txt"

// start runs the program and returns its exit code and what it said.
func start(args ...string) (code int, said string) {
	var out bytes.Buffer
	return run(args, &out, &out), out.String()
}

// recordedWith is the recorded output with a text replaced, in a file.
func recordedWith(t *testing.T, old, replacement string) string {
	t.Helper()
	b, err := os.ReadFile(recorded)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(old)) {
		t.Fatalf("%s has no %q", recorded, old)
	}
	path := filepath.Join(t.TempDir(), "output.txt")
	if err := os.WriteFile(path, bytes.ReplaceAll(b, []byte(old), []byte(replacement)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReport_golden(t *testing.T) {
	dir := t.TempDir()
	if *update {
		dir = "testdata/golden"
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if code, said := start("-input", recorded, "-o", dir); code != 0 {
		t.Fatal(said)
	}
	golden, err := filepath.Glob("testdata/golden/*")
	if err != nil || len(golden) < 10 {
		t.Fatalf("only %d files in testdata/golden, %v", len(golden), err)
	}
	for _, path := range golden {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, filepath.Base(path))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not as it was (go test ./fstests/bench/report -update writes it), %v", filepath.Base(path), err)
		}
	}
	made, err := os.ReadDir(dir)
	if err != nil || len(made) != len(golden) {
		t.Errorf("%d files were made, want %d, %v", len(made), len(golden), err)
	}
}

// What is drawn must be XML, and say what it is.
func TestReport_plots(t *testing.T) {
	dir := t.TempDir()
	if code, said := start("-input", recorded, "-o", dir); code != 0 {
		t.Fatal(said)
	}
	plots, _ := filepath.Glob(filepath.Join(dir, "*.svg")) // the pattern is correct
	for _, path := range plots {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for d := xml.NewDecoder(bytes.NewReader(b)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
		}
		for _, text := range []string{"<title>", "push of 64 MiB", "blockdev</text>"} {
			if !bytes.Contains(b, []byte(text)) && !strings.HasSuffix(path, "size.svg") {
				t.Errorf("%s has no %q", filepath.Base(path), text)
			}
		}
	}
}

func TestReport_refuses(t *testing.T) {
	const line = "BenchmarkFirst/way=push/tool=cat-2\t"
	for _, c := range []struct{ name, old, replacement, want string }{
		{"a measurement that is no number", " ns/op", "x ns/op", ":"},
		{"a line without measurements", line, line + " 1\n" + line, "missing measurements"},
		{"a line that was cut", line, "BenchmarkFirst/way=push/tool=cat-2\t 1\t 12\n" + line, "missing units"},
		{"a name without a tool", "BenchmarkFirst/way=push/tool=cat-2", "BenchmarkFirst/way=push-2", "no tool"},
		{"a name without keys", "BenchmarkFirst/way=push/tool=cat-2", "BenchmarkFirst/cat-2", "not known"},
		{"a part of a name that is not known", "/way=push/tool=cat-2", "/way=push/color=red/tool=cat-2", "color=red"},
		{"a rate that is no number", "/rate=100/", "/rate=all/", "invalid syntax"},
		{"no size of the image", "image: ", "picture: ", "image: BYTES"},
		{"no result", "Benchmark", "Nothing", "no result"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			code, said := start("-input", recordedWith(t, c.old, c.replacement), "-o", dir)
			if code == 0 || !strings.Contains(said, c.want) || !strings.Contains(said, "output.txt") {
				t.Errorf("exit %d, said %q, want %q and the file", code, said, c.want)
			}
			if made, _ := os.ReadDir(dir); len(made) > 0 {
				t.Errorf("it wrote %d files all the same", len(made))
			}
		})
	}
}

// "go test -bench ." has more than the scenarios.
func TestReport_others(t *testing.T) {
	const line = "BenchmarkFirst/way=push/tool=cat-2\t"
	dir := t.TempDir()
	more := recordedWith(t, line, "BenchmarkHash/sha256sum-2 \t 1\t 328234668 ns/op\t  51.11 MB/s\n"+line)
	if code, said := start("-input", more, "-o", dir); code != 0 {
		t.Fatal(said)
	}
	want := resultsIn(t, "testdata/golden")
	if got := resultsIn(t, dir); len(got) != len(want) {
		t.Errorf("%d results, want %d", len(got), len(want))
	}
}

// A benchmark that failed leaves a hole in the report, which says so, and nothing goes into docs.
func TestReport_failed(t *testing.T) {
	const line = "BenchmarkFirst/way=push/tool=cat-2\t"
	dir := t.TempDir()
	failed := recordedWith(t, line, line+"--- FAIL: BenchmarkFirst/way=push/tool=cat-2\n    no space left\nDropped\t")
	docs := moduleWithDocs(t, "before\n"+docsStart+docsEnd)
	code, said := start("-input", failed, "-o", dir, "-docs")
	if code == 0 || !strings.Contains(said, "way=push/tool=cat") {
		t.Errorf("exit %d, said %q", code, said)
	}
	page, err := os.ReadFile(filepath.Join(dir, "report.md"))
	if err != nil || !strings.Contains(string(page), "Failed, and missing above:** BenchmarkFirst/way=push/tool=cat") {
		t.Errorf("the page does not tell, %v", err)
	}
	if files, err := os.ReadDir(docs); err != nil || len(files) != 2 {
		t.Errorf("%d files in docs, want those that were there, %v", len(files), err)
	}
}

// moduleWithDocs makes another module the one of this process, with a page and an old plot in docs.
func moduleWithDocs(t *testing.T, page string) (docs string) {
	t.Helper()
	root := t.TempDir()
	docs = filepath.Join(root, "docs")
	files := map[string][]byte{docsPage: []byte(page), "bench-old.svg": nil}
	if err := writeAll(docs, files); err != nil {
		t.Fatal(err)
	}
	if err := writeAll(root, map[string][]byte{"go.mod": []byte("module m\n")}); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	return docs
}

func TestReport_intoDocs(t *testing.T) {
	input, err := filepath.Abs(recorded)
	if err != nil {
		t.Fatal(err)
	}
	docs := moduleWithDocs(t, "before\n"+docsStart+"old\n"+docsEnd+"after\n")
	if code, said := start("-input", input, "-docs"); code != 0 {
		t.Fatal(said)
	}
	page, err := os.ReadFile(filepath.Join(docs, docsPage))
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	if !strings.HasPrefix(text, "before\n") || !strings.HasSuffix(text, "after\n") || strings.Contains(text, "old\n") || !strings.Contains(text, "| 1 % |") {
		t.Errorf("the page is now\n%s", text)
	}
	if _, err := os.Stat(filepath.Join(docs, "bench-old.svg")); err == nil {
		t.Error("a plot that the report does not have is still there")
	}
	if code, said := start("-input", filepath.Join(docs, docsInput), "-docs"); code != 0 {
		t.Fatal(said)
	}
	if again, err := os.ReadFile(filepath.Join(docs, docsPage)); err != nil || !bytes.Equal(again, page) {
		t.Errorf("the output in docs gives another page, %v", err)
	}

	moduleWithDocs(t, "no marks\n")
	if code, said := start("-input", input, "-docs"); code == 0 || !strings.Contains(said, docsPage) {
		t.Errorf("without a marked part: exit %d, said %q", code, said)
	}
}

func TestReport_flags(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"", "-o"},
		{"-o x -count 0", "-count"},
		{"-o x extra", "extra"},
		{"-o x -source /dev/a", "-target"},
		{"-o x -source /dev/a -target /dev/b", "-overwrite /dev/b"},
		{"-o x -source /dev/a -target /dev/b -overwrite /dev/a", "-overwrite /dev/b"},
		{"-o x -scenarios changed", "changed-push"},
		{"-o x -tools rsink", "rsync-4k"},
		{"-o x -scenarios first-push -source a -target b -overwrite b", "none of the scenarios"},
		{"-o x -input not-there.txt", "not-there.txt"},
	} {
		if code, said := start(strings.Fields(c.args)...); code != 1 || !strings.Contains(said, c.want) {
			t.Errorf("%s: exit %d, said %q, want %q", c.args, code, said, c.want)
		}
	}
}

// docs/benchmarks.md has what the report makes of the output beside it, to the byte.
func TestReport_docs(t *testing.T) {
	root, err := harness.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	docs := filepath.Join(root, "docs")
	page, err := os.ReadFile(filepath.Join(docs, docsPage))
	if err != nil {
		t.Fatal(err)
	}
	output, err := os.ReadFile(filepath.Join(docs, docsInput))
	if err != nil {
		t.Fatal(err)
	}
	r, err := read(string(output), docsInput)
	if err != nil {
		t.Fatal(err)
	}
	files, err := r.docsFiles(string(page), string(output))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(docs, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/%s is not what the report makes (go run ./fstests/bench/report -docs -input docs/%s writes it), %v",
				name, docsInput, err)
		}
	}
	plots, _ := filepath.Glob(filepath.Join(docs, docsPlots)) // the pattern is correct
	for _, path := range plots {
		if files[filepath.Base(path)] == nil {
			t.Errorf("%s belongs to no report", path)
		}
	}
}

// A small run, from the benchmarks to the report.
func TestReport_run(t *testing.T) {
	require.Need(t, require.Sshd, require.SSH, require.Rsync)
	dir := t.TempDir()
	code, said := start("-size", "16M", "-tools", "blockdev,rsync", "-count", "1", "-rates", "0,100", "-rtts", "10", "-o", dir)
	if code != 0 {
		t.Fatal(said)
	}
	rows := resultsIn(t, dir)
	// Two rates, one distance and the first copy, with two tools.
	if len(rows) != 8 {
		t.Errorf("%d results, want 8:\n%s", len(rows), said)
	}
	seen := false
	for _, r := range rows {
		for _, metric := range metrics {
			if _, ok := r.Metrics[metric]; !ok && (metric == command || metric == host) {
				continue // a process can be too short to be seen
			}
			if r.Metrics[metric].Median <= 0 {
				t.Errorf("%v: %s is %v", r.point, metric, r.Metrics[metric])
			}
		}
		seen = seen || r.Metrics[host].Median > 1
		sent := r.Metrics[wire].Median
		switch all := float64(r.Image) / 1e6; {
		case r.Benchmark == "Changed" && r.Rate == 0 && sent > all/10:
			t.Errorf("%v: nothing had changed and %v MB were sent", r.point, sent)
		case r.Rate == 100 && sent < all/3:
			t.Errorf("%v: everything had changed and only %v MB were sent", r.point, sent)
		case r.RTT == 10 && r.Metrics[seconds].Median < 0.02:
			t.Errorf("%v: took %v s, so nothing was held back", r.point, r.Metrics[seconds].Median)
		}
	}
	if !seen {
		t.Error("no process was seen on the host")
	}
}

func resultsIn(t *testing.T, dir string) []row {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Results []row }
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	return all.Results
}
