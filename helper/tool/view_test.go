package tool

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/progress"
)

// keysOf collects the keys of events by the name of the event.
func keysOf(t *testing.T, stdout string, into map[string]map[string]bool) {
	t.Helper()
	for line := range strings.Lines(stdout) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		name := event["event"].(string)
		if into[name] == nil {
			into[name] = map[string]bool{}
		}
		for key := range event {
			into[name][key] = true
		}
	}
}

// Every key of every event is in the manual, and the manual has no others: it is what programs rely on. Those of info
// are in docs/blockdev.md.
func TestEvents_Documented(t *testing.T) {
	manual, err := os.ReadFile("../../docs/helper.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| (start|progress|difference|end) \\| `([^|]*)` \\|").FindAllStringSubmatch(string(manual), -1) {
		want[m[1]] = append(want[m[1]], strings.Split(m[2], "`, `")...)
	}
	a := edges.Contents()[1].Make(2<<20, 1)
	one := put(t, "a.img", a)
	a[0] ^= 1
	two := put(t, "b.img", a)
	got := map[string]map[string]bool{}
	for code, args := range [][]string{{"digest", "-o", made(t, one), one}, {"compare", one, two}, {"compare", one, made(t, one, "--block-size=512"), "--block-size=512"}} {
		c, stdout, stderr := runTool(t, append(args, "--json")...)
		if c != code%2 || stderr != "" {
			t.Errorf("%q: %d %q", args, c, stderr)
		}
		keysOf(t, stdout, got)
	}
	var out bytes.Buffer
	v := &events{out: &out}
	v.progress(progress.State{Done: 1, Size: 2, Elapsed: time.Second})
	(&call{view: v}).finish(&result{}, os.ErrClosed)
	keysOf(t, out.String(), got)
	for _, name := range []string{"start", "progress", "difference", "end"} {
		slices.Sort(want[name])
		if keys := slices.Sorted(maps.Keys(got[name])); !slices.Equal(keys, want[name]) {
			t.Errorf("%s has %q, the manual says %q", name, keys, want[name])
		}
	}
}

// Nothing comes after the end.
func TestEvents_EndOnce(t *testing.T) {
	var out bytes.Buffer
	v := &events{out: &out}
	v.end(&result{})
	v.progress(progress.State{})
	v.end(&result{})
	if strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%q", out.String())
	}
}

// The bar fits on a line, makes room for what is printed, and is gone at the end. Elsewhere there are lines.
func TestHuman(t *testing.T) {
	var out, errs bytes.Buffer
	v := &human{out: &out, err: &errs, terminal: true}
	v.progress(progress.State{Done: 999 << 40, Size: 999 << 41, Elapsed: 9999 * time.Hour})
	first := errs.String()
	if !strings.HasPrefix(first, "\r 50% [==========..........] ") || len(first) > 80 {
		t.Errorf("%q", first)
	}
	v.progress(progress.State{Done: 1, Size: 1, Elapsed: time.Second})
	v.differs(span{4096, 512})
	if got := out.String(); got != "at byte 4096: 512 bytes differ\n" {
		t.Errorf("%q", got)
	}
	v.progress(progress.State{Done: 1, Size: 1, Elapsed: time.Second})
	v.end(&result{text: "done"})
	v.progress(progress.State{Done: 1, Size: 1, Elapsed: time.Second})
	if got := errs.String(); !strings.HasSuffix(got, " \r") || strings.ContainsAny(got, "\x1b\n") {
		t.Errorf("%q", got)
	}
	errs.Reset()
	v = &human{out: &out, err: &errs}
	v.progress(progress.State{Done: 256 << 20, Size: 1 << 30, Elapsed: time.Second})
	if got := errs.String(); got != "25% 256Mi/1.0Gi 256Mi/s, ETA 3s\n" || v.every() != linesEvery {
		t.Errorf("%q", got)
	}
	quiet := &human{out: &out, err: &errs, quiet: true}
	out.Reset()
	quiet.differs(span{1, 1})
	quiet.notice("some")
	quiet.end(&result{text: "done"})
	if out.Len() != 0 || quiet.every() != 0 {
		t.Errorf("%q", out.String())
	}
}

// What is written is what encoding/json reads.
func TestAppendObject(t *testing.T) {
	at := time.Unix(1e9, 5)
	values := map[string]any{
		"text": "a\"b\\c\n\x00\x1f\u00e4\u20ac\U0001f600/<>&", "empty": "", "number": int64(-1 << 53), "fraction": 0.0000015, "large": 1e21, "yes": true, "no": false,
		"list": []string{"a", "\t", ""}, "none": []string{}, "null": nil, "when": at,
	}
	var pairs []any
	for key, value := range values {
		pairs = append(pairs, key, value)
	}
	line := appendObject(nil, pairs)
	var got map[string]any
	if err := json.Unmarshal(line, &got); err != nil || bytes.Count(line, []byte("\n")) != 1 {
		t.Fatalf("%s: %v", line, err)
	}
	again, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := json.Unmarshal(again, &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v\nwant\n%v", got, want)
	}
	if err := json.Unmarshal(appendObject(nil, []any{"k", "a\xffb"}), &got); err != nil || got["k"] != "a\ufffdb" {
		t.Errorf("%q, %v", got["k"], err)
	}
}
