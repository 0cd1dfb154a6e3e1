package blocksync

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/spf13/pflag"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/progress"
)

// Every key of every event is in the manual, and the manual has no others: it is what programs rely on.
func TestEvents_Documented(t *testing.T) {
	manual, err := os.ReadFile("../../docs/blocksync.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	row := regexp.MustCompile("(?m)^\\| (start|progress|end) \\| `([^|]*)` \\|")
	for _, m := range row.FindAllStringSubmatch(string(manual), -1) {
		want[m[1]] = append(want[m[1]], strings.Split(m[2], "`, `")...)
	}
	var out bytes.Buffer
	v := &events{out: &out}
	e := &end{typed: "a"}
	r := &result{Outcome: blockdev.Outcome{Scanned: 4096, Changed: 4096, Receipt: "r.json", Trusted: 1,
		Unreadable: blockdev.Unreadable{Ranges: []blockdev.Range{{Offset: 1, Length: 2}}, Count: 1, Bytes: 2}}, blockSize: 4096, root: "00", estimate: time.Second}
	v.start(&job{src: e, dst: e})
	v.progress(state{blockdev.Counters{Settled: 1}, 2, time.Second})
	v.end(r, errors.New("some"))
	r.dry = true
	(&events{out: &out}).end(r, nil)
	got := map[string]map[string]bool{}
	for line := range strings.Lines(out.String()) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		name := event["event"].(string)
		if got[name] == nil {
			got[name] = map[string]bool{}
		}
		for key := range event {
			got[name][key] = true
		}
	}
	for _, name := range []string{"start", "progress", "end"} {
		slices.Sort(want[name])
		if keys := slices.Sorted(maps.Keys(got[name])); !slices.Equal(keys, want[name]) {
			t.Errorf("%s has %q, the manual says %q", name, keys, want[name])
		}
	}
}

// Nothing comes after the end, also when a signal ends what is about to end by itself.
func TestEvents_EndOnce(t *testing.T) {
	var out bytes.Buffer
	v := &events{out: &out}
	v.end(&result{blockSize: 1}, errInterrupted)
	v.progress(state{})
	v.end(&result{blockSize: 1}, nil)
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "interrupted") {
		t.Errorf("%q", out.String())
	}
}

// What is on a terminal of 80 columns stays on its line, also with the largest numbers.
func TestState_Width(t *testing.T) {
	most := state{blockdev.Counters{Settled: 999 << 50, Changed: 999 << 50, Zeroed: 999 << 50, Wire: 999 << 50}, 999 << 50, 999 * time.Hour}
	for _, s := range []state{{}, {size: 1}, most, {Counters: blockdev.Counters{Settled: 1 << 20}, size: 8 << 40, elapsed: time.Hour}} {
		if n := len(s.described()); n+barWidth+barRoom >= columns {
			t.Errorf("%d characters before the bar: %s", n, s.described())
		}
		if n := len(s.line()); n >= columns {
			t.Errorf("%d characters: %s", n, s.line())
		}
	}
}

func TestState_ETA(t *testing.T) {
	s := state{blockdev.Counters{Settled: 256}, 1024, time.Second}
	if d, ok := s.pace().ETA(); !ok || d != 3*time.Second {
		t.Errorf("%v, %v", d, ok)
	}
	if d, ok := (state{size: 1024, elapsed: time.Second}).pace().ETA(); ok {
		t.Errorf("%v before anything is known", d)
	}
}

func TestLines(t *testing.T) {
	var out, log bytes.Buffer
	v := &lines{out: &out, err: &log, interval: time.Millisecond}
	read := func() blockdev.Counters {
		return blockdev.Counters{Settled: 512 << 20, Changed: 128 << 20, Zeroed: 64 << 20}
	}
	stop := every(v, 1<<30, read)
	time.Sleep(50 * time.Millisecond)
	stop()
	if !strings.HasPrefix(log.String(), "50% 512Mi/1.0Gi ") || !strings.Contains(log.String(), "/s, sent 128Mi, changed 25%, zero 12%, ETA ") {
		t.Errorf("%q", log.String())
	}
	v.end(&result{Outcome: blockdev.Outcome{Scanned: 1 << 30, Equal: 1<<30 - 10<<20, Changed: 10 << 20, Wire: 11 << 20, Took: 2 * time.Second}, blockSize: 4096}, nil)
	v.end(new(result), nil)
	if want := "scanned 1Gi, equal 1014Mi, changed 10Mi (2560 blocks), zero 0 (0 blocks)\n" +
		"sent 10Mi, on the wire 11Mi, 512Mi/s, in 2s, speed-up 93.1 against a full copy\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}

func TestAsk(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, " yes \n": true, "\n": false, "": false, "n\n": false, "yeah\n": false, "/dev/sda\n": false} {
		var w bytes.Buffer
		if got, err := ask(&w, strings.NewReader(answer), "Overwrite?"); err != nil || got != want || w.String() != "Overwrite? [y/N] " {
			t.Errorf("%q: %v, %v; %q", answer, got, err, w.String())
		}
	}
}

func TestBytesFlag(t *testing.T) {
	for text, want := range map[string]bytesFlag{"4096": 4096, "512": 512, "4Ki": 4096, "64K": 65536, "1Mi": 1 << 20, "4096B": 4096} {
		var f bytesFlag
		if err := f.Set(text); err != nil || f != want {
			t.Errorf("%s: %d, %v", text, f, err)
		}
	}
}

// The help fits on a terminal of 80 columns.
func TestCommand_Width(t *testing.T) {
	c := Command()
	for line := range strings.Lines(c.Long + "\n" + c.Example + "\n" + c.Flags().FlagUsages()) {
		if n := len(strings.TrimSuffix(line, "\n")); n > columns {
			t.Errorf("%d characters: %s", n, line)
		}
	}
}

// The helper, which has no rclone, writes sizes as rclone does.
func TestSize(t *testing.T) {
	for _, n := range []int64{0, 1, 512, 1023, 1024, 1025, 4096, 70001, 1 << 20, 1<<20 + 1, 1<<30 - 1, 643<<20 + 839909, 3 << 40, 5<<50 + 1, 1 << 62} {
		if got, want := progress.Size(n), fs.SizeSuffix(n).String(); got != want {
			t.Errorf("%d: %q, rclone writes %q", n, got, want)
		}
	}
}

func TestLinesInterval(t *testing.T) {
	for given, want := range map[string]time.Duration{"": linesEvery, "--stats=10m": 10 * time.Minute, "--stats=0": 0} {
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags.Duration("stats", time.Minute, "")
		if err := flags.Parse(strings.Fields(given)); err != nil {
			t.Fatal(err)
		}
		if got := linesInterval(flags); got != want {
			t.Errorf("%q: every %v, want %v", given, got, want)
		}
	}
}
