package blockdev

import (
	"strings"
	"testing"

	"github.com/rclone/rclone/fs/hash"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// A long hash has a line in the progress, is counted once, and transfers nothing.
func TestObject_HashProgress(t *testing.T) {
	for _, rclones := range []bool{false, true} {
		ctx, s := stats(t)
		o := &Object{remote: "disk.img", entry: wire.Entry{Size: 200}}
		done := func() {}
		if rclones { // as in hashsum and in sync --checksum
			tr := s.NewCheckingTransfer(o, "checking")
			done = func() { tr.Done(ctx, nil) }
		}
		line := hashLine{ctx: ctx, o: o}
		line.show(50)
		line.show(100)
		if text := s.String(); !strings.Contains(text, "disk.img: 50% / 200 B") || !strings.Contains(text, "hashing") {
			t.Errorf("half way the progress is %q", text)
		}
		line.end()
		if !rclones && isChecking(s, "disk.img") {
			t.Error("the line stays")
		}
		done()
		if s.GetBytes() != 0 || s.GetChecks() != 1 || isChecking(s, "disk.img") {
			t.Errorf("%d bytes, %d checks, a line: %v", s.GetBytes(), s.GetChecks(), isChecking(s, "disk.img"))
		}
	}
}

// A hash that is over in a moment leaves no trace in the statistics.
func TestObject_HashShort(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/disk.img", []byte("content"))
	o := find(t, here(t, dir), "disk.img")
	ctx, s := stats(t)
	if _, err := o.Hash(ctx, hash.SHA256); err != nil {
		t.Error(err)
	}
	if s.GetBytes() != 0 || s.GetChecks() != 0 {
		t.Errorf("%d bytes, %d checks", s.GetBytes(), s.GetChecks())
	}
}
