package fstests

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

const troubleshooting = "../docs/troubleshooting.md"

// messageSources are the packages whose errors and notices users see.
var messageSources = []string{
	"helper", "helper/bundle", "helper/compress", "helper/delta", "helper/device", "helper/manifest", "helper/recovery",
	"helper/signature", "helper/snapshot", "helper/tool", "helper/wire", "helper/witness", "backend/blockdev", "backend/blocksync",
	"backend/deltafile", "backend/devmap", "backend/host", "backend/receipt", "cmd/blockdev-helper", "cmd/rclone-blockdev",
}

// messageMakers are the functions whose texts are errors or notices.
var messageMakers = []string{
	"Errorf", "New", "Logf", "Sprintf", "refuse", "fail", "transient", "notice", "wrong", "missing", "say", "broken", "corrupted",
	"breach", "toolFailed", "trouble",
}

// notMessages are texts of such functions that the page leaves out: parts of other messages, conditions and progress,
// and what only a defect could show. What begins with "protocol error" or "internal error" has one entry for all.
var notMessages = []string{
	"frame of type", "vg_name=", "lv_kernel_major=", "a range that ends", "ranges out of order", "the client is gone",
	"the handshake is over", "verify host key", "requests ahead", "frames ahead", "there is no chunk", "might ask something",
	", while ... is frozen", "each shows its rarest kind", "chg ...%", "changed ...%", "speed-up", "the copy would take about",
	"are equal: ..., root", "of them zero, root", "; they have ... and ... bytes",
}

var (
	formatVerb  = regexp.MustCompile(`%(\[\d+\])?[-+# 0]*\d*(\.\d+)?[a-zA-Z%]`)
	messageRow  = regexp.MustCompile("(?m)^\\| (`.*?`) \\| .+ \\| .+ \\|$")
	quotedText  = regexp.MustCompile("`([^`]+)`")
	foreignPart = "\n## What rclone, ssh and the system say\n"
)

// Each message that the page quotes is in the sources, with "..." for what varies; and each that the sources have is on
// the page, at least by a part of it that can be searched for.
func TestTroubleshooting_Messages(t *testing.T) {
	own, _, found := strings.Cut(readPage(t, troubleshooting), foreignPart)
	if !found {
		t.Fatalf("%s has no section %q", troubleshooting, foreignPart)
	}
	var quotes []string
	for _, row := range messageRow.FindAllStringSubmatch(own, -1) {
		for _, q := range quotedText.FindAllStringSubmatch(row[1], -1) {
			quotes = append(quotes, q[1])
		}
	}
	if len(quotes) < 200 {
		t.Fatalf("%d messages found on the page", len(quotes))
	}
	texts := map[string]bool{} // true for what must be on the page
	for _, dir := range messageSources {
		collectTexts(t, filepath.Join("..", filepath.FromSlash(dir)), texts)
	}
	for _, q := range quotes {
		if !anyText(texts, func(text string) bool { return strings.Contains(text, q) }) {
			t.Errorf("the page has %q, which no source says", q)
		}
	}
	for text, needed := range texts {
		if needed && !slices.ContainsFunc(quotes, func(q string) bool { return strings.Contains(text, q) }) {
			t.Errorf("the page lacks %q", text)
		}
	}
}

// The messages of others that the page quotes are in the sources of rclone and of the SSH library, or are those of the
// kernel. What sudo and doas say is not looked for.
func TestTroubleshooting_Foreign(t *testing.T) {
	_, foreign, _ := strings.Cut(readPage(t, troubleshooting), foreignPart)
	foreign, _, _ = strings.Cut(foreign, "\n## ")
	texts := map[string]bool{}
	for module, folders := range map[string][]string{
		"github.com/rclone/rclone": {"cmd", "cmd/check", "fs", "fs/config", "fs/operations", "backend/local"}, "golang.org/x/crypto": {"ssh"},
	} {
		out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, folder := range folders {
			collectTexts(t, filepath.Join(strings.TrimSpace(string(out)), filepath.FromSlash(folder)), texts)
		}
	}
	for no := range syscall.Errno(200) {
		texts[no.Error()] = false
	}
	rows := messageRow.FindAllStringSubmatch(foreign, -1)
	if len(rows) < 10 {
		t.Fatalf("%d messages of others found", len(rows))
	}
	for _, row := range rows {
		for _, q := range quotedText.FindAllStringSubmatch(row[1], -1) {
			if strings.HasPrefix(q[1], "sudo: ") || strings.HasPrefix(q[1], "doas: ") {
				continue
			}
			if !anyText(texts, func(text string) bool { return strings.Contains(text, q[1]) }) {
				t.Errorf("nobody says %q", q[1])
			}
		}
	}
}

// Each code of the wire has a row, by its number and text.
func TestTroubleshooting_Codes(t *testing.T) {
	page := readPage(t, troubleshooting)
	n := 1
	for ; wire.Code(n).Error() != fmt.Sprintf("error code %d", n); n++ {
		if row := fmt.Sprintf("\n| %d | %s | ", n, wire.Code(n).Error()); !strings.Contains(page, row) {
			t.Errorf("the page has no row %q", row)
		}
	}
	if row := fmt.Sprintf("\n| %d | ", n); strings.Contains(page, row) {
		t.Errorf("the page has a row %q of a code that does not exist", row)
	}
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func anyText(texts map[string]bool, match func(string) bool) bool {
	for text := range texts {
		if match(text) {
			return true
		}
	}
	return false
}

// collectTexts adds the string constants of a package, with "..." in the place of each verb of a format.
func collectTexts(t *testing.T, dir string, texts map[string]bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no sources in %s: %v", dir, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				for _, arg := range n.Args {
					if text, ok := constantText(arg); ok && slices.Contains(messageMakers, calledName(n.Fun)) && isMessage(text) {
						texts[text] = true
					}
				}
			case ast.Expr:
				if text, ok := constantText(n); ok && !texts[text] {
					texts[text] = false
				}
			}
			return true
		})
	}
}

// isMessage tells a sentence of ours from keys, formats and questions.
func isMessage(text string) bool {
	if strings.HasPrefix(text, "protocol error") || strings.HasPrefix(text, "internal error") || strings.Contains(text, "\n") {
		return false
	}
	if slices.ContainsFunc(notMessages, func(part string) bool { return strings.Contains(text, part) }) {
		return false
	}
	words := 0
	for word := range strings.FieldsSeq(text) {
		if strings.ContainsAny(word, "abcdefghijklmnopqrstuvwxyz") {
			words++
		}
	}
	return words > 2
}

func calledName(fun ast.Expr) string {
	switch fun := fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		return fun.Sel.Name
	}
	return ""
}

// constantText is the value of a string constant, also of one that is joined by "+".
func constantText(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(e.Value)
		return formatVerb.ReplaceAllStringFunc(s, func(verb string) string {
			if verb == "%%" {
				return "%"
			}
			return "..."
		}), err == nil
	case *ast.BinaryExpr:
		left, okLeft := constantText(e.X)
		right, okRight := constantText(e.Y)
		if !okLeft && !okRight {
			return "", false
		}
		if !okLeft {
			left = "..."
		}
		if !okRight {
			right = "..."
		}
		return left + right, true
	}
	return "", false
}
