package blockdev

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
)

// The hook after a copy whose last answer was lost runs once, when that is known to be complete. When the host is not
// reached again, it runs as after a failure: nobody knows then.
func TestEnding_Hook(t *testing.T) {
	data := edges.Contents()[1].Make(1<<20, 3)
	for name, back := range map[string]bool{"back": true, "gone": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir+"/img", edges.Contents()[1].Make(1<<20, 4))
			write(t, dir+"/hook", []byte("#!/bin/sh\necho $BLOCKDEV_HOOK $BLOCKDEV_OUTCOME >>"+dir+"/log\n"))
			if err := os.Chmod(dir+"/hook", 0o700); err != nil {
				t.Fatal(err)
			}
			said := func() string {
				text, _ := os.ReadFile(dir + "/log")
				return strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", ", ")
			}
			f, relay := overSSH(t, dir)
			opt := &f.(*Fs).opt
			opt.BeforeWrite, opt.AfterWrite = fs.SpaceSepList{dir + "/hook"}, fs.SpaceSepList{dir + "/hook"}
			if !back {
				opt.RetryTime = fs.Duration(time.Second)
			}
			w := chunked(t, f, "img", int64(len(data)))
			if _, err := w.WriteChunk(t.Context(), 0, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			err := unanswered(t, relay, func() bool { return isOf(dir+"/img", when) }, func(mute func()) error {
				mute()
				relay.Refuse(!back)
				return w.Close(t.Context())
			})
			relay.Refuse(false)
			same(t, dir+"/img", data)
			want := "before_write, after_write success"
			if !back {
				want = "before_write, after_write lost"
			}
			if (err == nil) != back {
				t.Errorf("%v", err)
			}
			for end := time.Now().Add(30 * time.Second); said() != want && time.Now().Before(end); {
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(200 * time.Millisecond) // nothing more comes
			if got := said(); got != want {
				t.Errorf("did %q, not %q", got, want)
			}
		})
	}
}
