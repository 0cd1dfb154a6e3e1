package blockdev

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

const manual = "../../docs/blockdev.md"

// metadataRow is a row of the tables of metadata and of the command info.
var metadataRow = regexp.MustCompile(`(?m)^\| ([a-z-]+) \| (.+?) \| (string|int|boolean|RFC 3339|list of strings) \|(?: (.+) \| \*\*Y\*\* \|)?$`)

// The manual has every fact, the metadata among them twice, and every command with its options.
func TestDocs_Commands(t *testing.T) {
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	all, metadata := map[string][]string{}, map[string][]string{}
	for _, row := range metadataRow.FindAllStringSubmatch(string(text), -1) {
		if row[4] != "" {
			metadata[row[1]] = row
		} else {
			all[row[1]] = row
		}
	}
	for _, f := range facts {
		if row := all[f.key]; row == nil || row[2] != f.help || row[3] != string(f.kind) {
			t.Errorf("info: %s is in the manual as %q", f.key, row)
		}
		if row := metadata[f.key]; f.state != (row == nil) || row != nil && (row[2] != f.help || row[4] != f.example) {
			t.Errorf("metadata: %s is in the manual as %q", f.key, row)
		}
		value := device.Values([]device.Property{{Key: f.key, Value: f.example}})[f.key]
		if want := map[factKind]any{factNumber: int64(0), factFlag: false, factList: []string{}}[f.kind]; want != nil && reflect.TypeOf(value) != reflect.TypeOf(want) {
			t.Errorf("%s is %T in JSON, the manual says %s", f.key, value, f.kind)
		}
		delete(all, f.key)
		delete(metadata, f.key)
	}
	delete(all, "host") // who was asked, and for what
	delete(all, "name")
	delete(all, "pinned") // this side knows it
	delete(all, "around") // this side will ask for it
	if len(all) > 0 || len(metadata) > 0 {
		t.Errorf("nobody tells %v, %v", all, metadata)
	}
	_, chapter, _ := strings.Cut(string(text), "\n## Backend commands\n")
	for _, c := range commands {
		_, section, found := strings.Cut(chapter, "\n### "+c.help.Name+"\n")
		section, _, _ = strings.Cut(section, "\n### ")
		if !found || !strings.Contains(section, "rclone-blockdev backend "+c.help.Name+" blockdev:") {
			t.Errorf("%s is not in the manual", c.help.Name)
		}
		for option := range c.help.Opts {
			if !strings.Contains(section, "\n- `"+option+"`: ") {
				t.Errorf("%s: the option %s is not in the manual", c.help.Name, option)
			}
		}
	}
}
