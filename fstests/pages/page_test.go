package pages

import (
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

func mustParse(t *testing.T, text string) []Step {
	t.Helper()
	steps, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

// fence puts lines into a block, since a raw string of Go cannot.
func fence(text string) string { return strings.ReplaceAll(text, "~~~", "```") }

func TestParse(t *testing.T) {
	steps := mustParse(t, fence(`# A page

<!-- host vmhost nas -->
<!-- device vmhost /dev/vg0/mail 64M -->
<!-- run nas:
mkdir /a
mkdir /b
-->

1. In a list:
   ~~~sh
   echo one \
       two
   for i in a b; do
       echo $i
   done
   ~~~

<!-- on vmhost -->
<!-- status 3 -->
~~~console
$ cat <<END
text
END
text
...
$ false
~~~

<!-- file nas:/etc/x.conf -->
~~~ini
a = b
~~~
<!-- not run: it would take a day -->
~~~console
sleep 86400
~~~
<!-- output -->
~~~text
done
~~~
`))
	var got []string
	for _, s := range steps {
		got = append(got, strings.Join(append([]string{s.verb, s.on}, append(s.args, s.text)...), "|"))
	}
	want := []string{
		"host|here|vmhost|nas|",
		"device|here|vmhost|/dev/vg0/mail|64M|",
		"command|nas|mkdir /a\n",
		"command|nas|mkdir /b\n",
		"command|here|echo one \\\n    two\n",
		"command|here|for i in a b; do\n    echo $i\ndone\n",
		"command|vmhost|cat <<END\ntext\nEND\n",
		"output|vmhost|text\n...\n",
		"command|vmhost|false\n",
		"file|nas|/etc/x.conf|a = b\n",
		"output||done\n",
	}
	if len(got) != len(want) {
		t.Fatalf("got %q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("step %d is %q, want %q", i, got[i], want[i])
		}
	}
	if steps[6].want != 3 || steps[4].want != 0 {
		t.Errorf("the exit codes are %d and %d", steps[6].want, steps[4].want)
	}
}

func TestParse_Refusals(t *testing.T) {
	for name, text := range map[string]string{
		"Unmarked":       "~~~text\nx\n~~~\n",
		"NoLanguage":     "~~~\nx\n~~~\n",
		"NoReason":       "<!-- not run: -->\n~~~console\nx\n~~~\n",
		"UnknownComment": "<!-- hots vmhost -->\n",
		"FarFromBlock":   "<!-- output -->\nA sentence.\n\n~~~text\nx\n~~~\n",
		"Incomplete":     "~~~console\n$ cat 'x\n~~~\n",
		"OpenBlock":      "~~~console\n$ cat\n",
		"OpenComment":    "<!-- run: x\n",
		"StatusNoNumber": "<!-- status one -->\n~~~sh\nx\n~~~\n",
		"MarkedForNone":  "<!-- on vmhost -->\nA sentence.\n",
		"MarkedAtTheEnd": "~~~sh\ntrue\n~~~\n<!-- output -->\n",
	} {
		t.Run(name, func(t *testing.T) {
			if steps, err := Parse(fence(text)); err == nil {
				t.Errorf("parsed as %v", steps)
			}
		})
	}
}

func TestShows(t *testing.T) {
	const got = `2026/11/26 09:24:33 NOTICE: Config file not found
2026/11/26 09:24:33 INFO  : mail: scanned 64Mi, changed 1.5Mi, zeroed 0, on the wire 41.009Ki, in 650ms
d0f3c1a2b4c5d6e7  mail
 a   b
took 0.0416117
`
	for _, c := range []struct {
		want  string
		shown bool
	}{
		{"INFO  : mail: scanned 1Gi, changed 3.2Gi, zeroed 0, on the wire 1.02Mi, in 1m3.5s\nffffffffffffffff mail", true},
		{"INFO : mail: scanned ... in 1s", true},
		{"...\na b", true},
		{"took 0.245090557", true}, // which could be the digits of a sum
		{"took 0", false},
		{"a b\n0123456789abcdef mail", false}, // another order
		{"INFO : mail: scanned 1Gi, changed 0, zeroed 0, on the wire 1Ki, in 1s", false},           // something was changed
		{"INFO : mail: scanned 1Gi, changed 1Mi, zeroed 1Mi, on the wire 1Ki, in 1s", false},       // nothing was zeroed
		{"INFO : mail: scanned 64Mi, changed 1Mi, zeroed 0, on the wire 1Ki, in 1s and so", false}, // more
	} {
		if missing := Shows(got, c.want); (missing == "") != c.shown {
			t.Errorf("%q: missing is %q", c.want, missing)
		}
	}
}

// A page fails by a wrong command, a wrong exit code and a wrong output, with the line.
func TestPlay_Wrong(t *testing.T) {
	stage := harness.NewStage(t)
	defer stage.Stop()
	for name, c := range map[string]struct{ page, err string }{
		"Right":   {"<!-- host vmhost -->\n<!-- device vmhost /dev/vg0/mail 1M -->\n~~~sh\nrclone-blockdev lsf blockdev:vmhost/dev/vg0\n~~~\n<!-- output -->\n~~~text\nmail\n~~~\n", ""},
		"Option":  {"~~~console\n$ rclone-blockdev version --no-such-flag\n~~~\n", "line 2: "},
		"Program": {"\n~~~console\n$ true\n$ no-such-program\n~~~\n", "line 4: "},
		"Status":  {"<!-- status 1 -->\n~~~sh\ntrue\n~~~\n", "line 3: "},
		"Output":  {"~~~console\n$ echo one\ntwo\n~~~\n", "line 3: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := play(t, stage, mustParse(t, fence(c.page)))
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.HasPrefix(err.Error(), c.err)) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}
