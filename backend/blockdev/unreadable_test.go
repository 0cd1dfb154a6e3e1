package blockdev

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone/rclone/fs/accounting"
	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// failingDevice makes a device with that content of which only the first bytes can be read: its backing file was cut.
func failingDevice(t *testing.T, data []byte, readable int64) *harness.Device {
	t.Helper()
	d, _, _ := loop(t, data)
	if out, err := exec.Command("blockdev", "--flushbufs", d.Path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Truncate(d.Backing, readable); err != nil {
		t.Fatal(err)
	}
	return d
}

// A copy stops at the first place that cannot be read, or is completed around all of them and fails then.
func TestCopy_ReadErrors(t *testing.T) {
	const size, readable = 5 << 20, 3<<20 + 4096
	data, old := edges.Contents()[1].Make(size, 1), edges.Contents()[1].Make(size, 2)
	d := failingDevice(t, data, readable)
	name := filepath.Base(d.Path)
	zeros := append(bytes.Clone(data[:readable]), make([]byte, size-readable)...)
	kept := append(bytes.Clone(data[:readable]), old[readable:]...)
	for _, tt := range []struct {
		how       string
		old, want []byte // nil for none
	}{
		{"stop", nil, nil},
		{"zero", nil, zeros},
		{"zero", old, zeros},
		{"skip", nil, zeros},
		{"skip", old, kept},
	} {
		ctx, stat := stats(t)
		l := listen(t)
		dir := t.TempDir()
		if tt.old != nil {
			write(t, dir+"/image", tt.old)
		}
		src := find(t, newFs(t, "blockdev,read_errors="+tt.how+":localhost/dev/"), name)
		plan := &Plan{Receipt: t.TempDir()}
		var did Outcome
		plan.Done = func(o Outcome) { did = o }
		_, err := newFs(t, "blockdev:localhost"+dir).Features().Copy(WithPlan(ctx, plan), src, "image")
		if tt.how == "stop" {
			if !fserrors.IsNoLowLevelRetryError(err) || !fserrors.IsNoRetryError(err) || !errors.Is(err, wire.CodeIO) {
				t.Errorf("stop: %v", err)
			}
			for _, word := range []string{d.Path, "bytes of", "at byte ", "read_errors"} {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
			if _, err := os.Stat(dir + "/image"); err == nil {
				t.Error("stop: there is an image")
			}
			continue
		}
		if !fserrors.IsNoRetryError(err) || !strings.Contains(err.Error(), "1 places of the source could not be read") {
			t.Errorf("%s: %v", tt.how, err)
		}
		same(t, dir+"/image", tt.want)
		if files, err := os.ReadDir(plan.Receipt); err != nil || len(files) > 0 || did.Receipt != "" {
			t.Errorf("%s: a receipt of what is not the source: %v, %v", tt.how, files, err)
		}
		if u := did.Unreadable; u.Count != 1 || u.Bytes != size-readable || len(u.Ranges) != 1 || u.Ranges[0] != (Range{readable, size - readable}) {
			t.Errorf("%s: told %+v", tt.how, u)
		}
		if n := l.counter("unreadable"); n != size-readable || l.counter("unreadableOffset") != readable || l.counter("unreadableLength") != n {
			t.Errorf("%s: logged %s", tt.how, l.text())
		}
		if stat.HadRetryError() {
			t.Errorf("%s: rclone would try again", tt.how)
		}
	}
}

// A reading goes on as well, ends like any other, and is counted as an error.
func TestOpen_ReadErrors(t *testing.T) {
	const size, readable = 5 << 20, 3<<20 + 4096
	data, old := edges.Contents()[1].Make(size, 1), edges.Contents()[1].Make(size, 2)
	d := failingDevice(t, data, readable)
	name := filepath.Base(d.Path)
	ref := filepath.Join(t.TempDir(), "ref")
	write(t, ref, old)
	accounting.Start(t.Context()) // counts errors from then on
	for _, tt := range []struct {
		options string
		rest    []byte // what is read in place of the rest, nil for an error
		says    string
	}{
		{"read_errors=stop", nil, "at byte 3149824"},
		{"read_errors=zero", make([]byte, size-readable), ""},
		{"read_errors=skip", nil, "nothing here that keeps its bytes"},
		{"read_errors=zero,reference=" + ref, make([]byte, size-readable), ""},
		{"read_errors=skip,reference=" + ref, old[readable:], ""},
	} {
		ctx, stat := stats(t)
		o := find(t, newFs(t, "blockdev,"+tt.options+":localhost/dev/"), name).(*Object)
		in, err := o.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(in)
		if cerr := in.Close(); cerr != nil {
			t.Errorf("%s: close: %v", tt.options, cerr)
		}
		in.Close()
		if tt.rest == nil {
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v", tt.options, err)
			}
			continue
		}
		if want := append(bytes.Clone(data[:readable]), tt.rest...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", tt.options, len(got), err)
		}
		if last := stat.GetLastError(); stat.GetErrors() != 1 || !fserrors.IsNoRetryError(last) || !o.damaged.Load() {
			t.Errorf("%s: %d errors, %v", tt.options, stat.GetErrors(), last)
		}
	}
}

// What could not be read as a whole is not removed.
func TestRemove_Damaged(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/image", []byte("data"))
	o := find(t, here(t, dir), "image").(*Object)
	o.damaged.Store(true)
	ctx, _ := stats(t)
	if err := operations.DeleteFile(ctx, o); !fserrors.IsNoRetryError(err) {
		t.Errorf("got %v", err)
	}
	same(t, dir+"/image", []byte("data"))
}

func TestGaps(t *testing.T) {
	var g gaps
	g.add([]wire.Gap{{Offset: 100, Length: 10}, {Offset: 200, Length: 10}})
	g.add([]wire.Gap{{Offset: 110, Length: 5}, {Offset: 100, Length: 10}, {Offset: 0, Length: 1}})
	if u := g.outcome(); u.Count != 3 || u.Bytes != 26 || u.Ranges[1] != (Range{100, 15}) {
		t.Errorf("%+v", u)
	}
	g.add([]wire.Gap{{Offset: 90, Length: 115}})
	if u := g.outcome(); u.Count != 2 || u.Ranges[1] != (Range{90, 120}) {
		t.Errorf("%+v", u)
	}
	g.forget(100)
	if u := g.outcome(); u.Count != 2 || u.Bytes != 11 || u.Ranges[1] != (Range{90, 10}) {
		t.Errorf("%+v", u)
	}
	g.forget(0)
	if err := g.outcome().Err(ReadErrors(wire.ReadZero)); err != nil {
		t.Error(err)
	}
}

// The log names some places, programs more, and both the number of all.
func TestUnreadable_Many(t *testing.T) {
	var g gaps
	for i := range int64(5000) {
		g.add([]wire.Gap{{Offset: i * 8192, Length: 4096}})
	}
	ctx, _ := stats(t)
	l := listen(t)
	u := g.outcome()
	err := u.conclude(ctx, nil, ReadErrors(wire.ReadSkip))
	if !fserrors.IsNoRetryError(err) || !strings.Contains(err.Error(), "5000 places") || !strings.Contains(err.Error(), "kept") {
		t.Errorf("got %v", err)
	}
	if text := l.text(); strings.Count(text, "unreadableOffset") != toldGaps || !strings.Contains(text, "and 4980 more places") {
		t.Errorf("logged %s", text)
	}
	if len(u.Ranges) != listedGaps || u.Count != 5000 || u.Bytes != 5000*4096 {
		t.Errorf("%d of %d listed", len(u.Ranges), u.Count)
	}
}
