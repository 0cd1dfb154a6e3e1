package wire

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// section is a part of docs/protocol.md under one heading.
type section struct {
	rows [][]string // cells of all its tables, without their heads
	text string
}

// protocol reads docs/protocol.md by its headings.
func protocol(t *testing.T) map[string]*section {
	b, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]*section{}
	var s *section
	head := true // the next row is the head of a table
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if title := strings.TrimLeft(line, "#"); title != line {
			s = &section{}
			sections[strings.TrimSpace(title)] = s
		}
		if s == nil {
			continue
		}
		s.text += line + "\n"
		if !strings.HasPrefix(line, "|") {
			head = true
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if !head && !strings.HasPrefix(cells[0], "--") {
			s.rows = append(s.rows, cells)
		}
		head = false
	}
	return sections
}

func TestProtocol_Frames(t *testing.T) {
	var rows [][]string
	for _, row := range protocol(t)["Frames"].rows {
		if len(row) == 4 {
			rows = append(rows, row)
		}
	}
	types := declaredTypes(t)
	if len(rows) != len(types) {
		t.Fatalf("%d frames are documented, %d exist", len(rows), len(types))
	}
	for i, d := range types {
		if want := fmt.Sprintf("%#02x", uint8(d.number)); len(want) == 4 && rows[i][0] != want || rows[i][1] != d.name || rows[i][2] != d.from {
			t.Errorf("documented %v, declared %#02x %s from %s", rows[i][:3], d.number, d.name, d.from)
		}
	}
}

func TestProtocol_Limits(t *testing.T) {
	limits := map[string]int{
		"MaxControl": MaxControl, "MaxBulk": MaxBulk, "MaxPath": MaxPath, "MaxText": MaxText, "MaxName": MaxName,
		"MaxPreamble": MaxPreamble, "MaxBatch": MaxBatch, "MaxWindow": MaxWindow, "MaxDirectory": MaxDirectory, "MaxWait": MaxWait,
	}
	rows := protocol(t)["Limits"].rows
	if len(rows) != len(limits) {
		t.Errorf("%d limits are documented, %d exist", len(rows), len(limits))
	}
	for _, row := range rows {
		if row[1] != strconv.Itoa(limits[row[0]]) {
			t.Errorf("%s is documented as %s, but is %d", row[0], row[1], limits[row[0]])
		}
	}
}

func TestProtocol_Codes(t *testing.T) {
	rows := protocol(t)["Codes"].rows
	if len(rows) != len(codeText) {
		t.Errorf("%d codes are documented, %d exist", len(rows), len(codeText))
	}
	for _, row := range rows {
		n, err := strconv.Atoi(row[0])
		if err != nil || codeText[Code(n)] != row[1] {
			t.Errorf("code %s is documented as %q, but is %q", row[0], row[1], codeText[Code(n)])
		}
	}
}

func TestProtocol_Versions(t *testing.T) {
	source, err := os.ReadFile("wire.go")
	if err != nil {
		t.Fatal(err)
	}
	history := regexp.MustCompile(`(?m)^//\t(\d+)  (.+)$`).FindAllStringSubmatch(string(source), -1)
	rows := protocol(t)["Versions"].rows
	if len(rows) != Version || len(history) != Version {
		t.Fatalf("%d versions are documented, %d in wire.go, the last is %d", len(rows), len(history), Version)
	}
	for i, row := range rows {
		if row[0] != strconv.Itoa(i+1) || row[0] != history[i][1] || row[1] != history[i][2] {
			t.Errorf("version %v, in wire.go %v", row, history[i][1:])
		}
	}
}

func TestProtocol_Opening(t *testing.T) {
	if want := fmt.Sprintf("% x", Magic); !strings.Contains(protocol(t)["Opening"].text, want) {
		t.Errorf("the magic %s is not documented", want)
	}
}

// Each message has a table whose offsets follow from its sizes, and whose end is that of the payload where that is
// fixed.
func TestProtocol_Messages(t *testing.T) {
	sections := protocol(t)
	for _, v := range vectors {
		s := sections[name(v.msg)]
		if s == nil {
			t.Errorf("%s is not documented", name(v.msg))
			continue
		}
		if empty := strings.Contains(s.text, "No payload."); empty != (len(s.rows) == 0) || empty && v.payload != "" {
			t.Errorf("%s has %d fields", name(v.msg), len(s.rows))
		}
		at, fixed := 0, true
		for i, row := range s.rows {
			if i > 0 && row[0] == "0" {
				fixed = false // another table: of entries, of runs
				break
			}
			if want := strconv.Itoa(at); fixed && row[0] != want || !fixed && row[0] != "-" {
				t.Errorf("%s: %s is at %s", name(v.msg), row[2], row[0])
			}
			size, err := strconv.Atoi(row[1])
			fixed = fixed && err == nil
			at += size
		}
		if fixed && at != len(v.payload) {
			t.Errorf("%s has %d bytes, %d are documented", name(v.msg), len(v.payload), at)
		}
	}
}

// The frames of the example are as long as it says.
func TestProtocol_Example(t *testing.T) {
	s := protocol(t)["Example"]
	for i, m := range []Message{
		&Digests{Sums: []byte(sumA)}, &Digests{First: 1, Sums: []byte(sumA + sumB)}, &Want{extent{1}},
		&Patch{Extent: 2, Runs: []Run{{Zero: true, Count: 1}}}, &Advance{1, 3, 3}, &Blocks{Extent: 1, Sums: make([]byte, 1024)},
		&Patch{Extent: 1, Runs: []Run{{First: 3, Count: 1}}, Data: make([]byte, 4096)}, &Applied{extent{1}}, &Advance{3, 3, 3}, &Finish{}, &Finished{},
	} {
		row := s.rows[i]
		if n := HeaderSize + len(Marshal(nil, m)); !strings.HasPrefix(row[1], name(m)) || row[2] != strconv.Itoa(n) {
			t.Errorf("%v, but %s has %d bytes", row, name(m), n)
		}
	}
	for _, m := range []Message{&Want{extent{1}}, &Advance{1, 3, 3}} {
		payload := Marshal(nil, m)
		want := fmt.Sprintf("%02x 000000 %08x  %x", uint8(m.Type()), len(payload), payload[:8])
		if !strings.Contains(s.text, want) {
			t.Errorf("%q is missing", want)
		}
	}
}
