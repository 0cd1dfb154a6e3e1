package host

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/rclone-blockdev/rclone-blockdev/helper/signature"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func TestAwaitSpeaker(t *testing.T) {
	long := strings.Repeat("banner line\n", wire.MaxPreamble/12+2)
	tests := map[string]struct {
		in    string
		rest  string
		reply reply
		fails bool
	}{
		"magic":                {in: wire.Magic + "data", rest: wire.Magic + "data"},
		"banner":               {in: "Welcome\nto " + wire.Magic + "data", rest: wire.Magic + "data"},
		"reply":                {in: replyPrefix + "missing linux/amd64\n", reply: reply{"missing", "linux/amd64"}},
		"reply after banner":   {in: "Welcome\r\n" + replyPrefix + "stored /a b\r\n", reply: reply{"stored", "/a b"}},
		"reply inside a line":  {in: "x " + replyPrefix + "stored /a\n" + wire.Magic, rest: wire.Magic},
		"hostile reply":        {in: replyPrefix + "failed run \x1b[2J/a\n", reply: reply{"failed", "run [2J/a"}},
		"announced":            {in: "Hi\n" + replyPrefix + "starts /a b\n" + wire.Magic + "data", rest: wire.Magic + "data", reply: reply{"starts", "/a b"}},
		"announced in vain":    {in: replyPrefix + "starts /a\n", fails: true},
		"cut reply":            {in: replyPrefix + "stored", fails: true},
		"nothing":              {fails: true},
		"only a banner":        {in: "This account is not available.\n", fails: true},
		"endless banner":       {in: long + wire.Magic, fails: true},
		"longest banner":       {in: long[:wire.MaxPreamble-100] + wire.Magic, rest: wire.Magic},
		"half a magic":         {in: wire.Magic[:5], fails: true},
		"magic after a reply?": {in: wire.Magic + replyPrefix + "stored /a\n", rest: wire.Magic + replyPrefix + "stored /a\n"},
	}
	for name, tt := range tests {
		for way, r := range map[string]io.Reader{
			"": strings.NewReader(tt.in), ", byte by byte": iotest.OneByteReader(strings.NewReader(tt.in))} {
			t.Run(name+way, func(t *testing.T) {
				rest, answer, err := awaitSpeaker(r)
				if (err != nil) != tt.fails || answer != tt.reply {
					t.Fatalf("got %v, %v", answer, err)
				}
				if rest == nil {
					return
				}
				if got, err := io.ReadAll(rest); err != nil || string(got) != tt.rest {
					t.Errorf("rest %q, %v", got, err)
				}
			})
		}
	}
}

func TestAwaitSpeaker_ReadError(t *testing.T) {
	broken := errors.New("broken")
	if _, _, err := awaitSpeaker(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func FuzzAwaitSpeaker(f *testing.F) {
	f.Add([]byte(wire.Magic))
	f.Add([]byte(replyPrefix + "starts /a\n" + wire.Magic))
	f.Add([]byte("hello\n" + replyPrefix + "failed run /tmp\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		rest, answer, err := awaitSpeaker(strings.NewReader(string(in)))
		if rest != nil && (err != nil || answer != reply{} && answer.verb != replyStarts) {
			t.Error("stream together with an answer or error")
		}
		if strings.ContainsAny(answer.detail, "\n\x1b\x00") {
			t.Errorf("unclean detail %q", answer.detail)
		}
	})
}

// What the helper says of a device, and compares again with what it is told later, passes unchanged.
func TestOneLine_Identity(t *testing.T) {
	for _, raw := range []string{"t10.ATA     Disk 870      S5Y1   ", " a\t b\u00a0c\u0085", "\x1b[2J\xff\ufffd", "\u3000x\u2003 y"} {
		if text := signature.Text([]byte(raw)); oneLine(text, wire.MaxName) != text {
			t.Errorf("%q became %q", text, oneLine(text, wire.MaxName))
		}
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		" a\r\n\tb ":             "a b",
		"\x1b[31mred\x00\x7f":    "[31mred",
		"bad \xff utf-8":         "bad utf-8",
		"c1 \u0085\u009bcontrol": "c1 control",
		strings.Repeat("x", 50):  "..." + strings.Repeat("x", 40),
	} {
		if got := oneLine(in, 40); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
