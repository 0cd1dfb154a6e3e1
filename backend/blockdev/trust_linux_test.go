package blockdev

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/operations"
	rsync "github.com/rclone/rclone/fs/sync"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// trustSize is three stripes and a bit, each of which begins with data that the target lacks.
const (
	trustSize = 3*block.StripeSize + 5<<20
	trustData = 20 << 20
)

// trusted is a copy that was interrupted.
type trusted struct {
	t              *testing.T
	f              *Fs // of the target
	relay          *harness.Relay
	source, target string
}

// interrupted makes one that was cut in its third stripe, to a target that exists.
func interrupted(t *testing.T, target string) *trusted {
	t.Helper()
	x := toTrust(t, target)
	x.relay.CutAfter(2*trustData + trustData/2)
	if err := x.copy(t.Context()); err == nil {
		t.Fatal("was not cut")
	}
	x.relay.Reset()
	x.free()
	return x
}

// toTrust is one that has not begun.
func toTrust(t *testing.T, target string) *trusted {
	t.Helper()
	x := &trusted{t: t, source: filepath.Join(t.TempDir(), "source"), target: target}
	f, relay := overSSH(t, filepath.Dir(target))
	x.f, x.relay = f.(*Fs), relay
	x.f.opt.RetryTime, x.f.opt.Streams, x.f.opt.Resume = 0, 1, resumeTrust
	img, err := os.Create(x.source)
	if err == nil {
		err = img.Truncate(trustSize)
	}
	for at := int64(0); at < 3*block.StripeSize && err == nil; at += block.StripeSize {
		_, err = img.WriteAt(edges.Contents()[1].Make(trustData, uint64(at>>28)+3), at)
	}
	if err = errors.Join(err, img.Close()); err != nil {
		t.Fatal(err)
	}
	return x
}

// free waits until the helper has ended: while it still writes, nobody sees who else does.
func (x *trusted) free() {
	x.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		o, err := device.OpenWrite(x.target, device.WriteOptions{Size: trustSize})
		if err == nil {
			err = o.Close()
		}
		switch {
		case err == nil:
			return
		case time.Now().After(end):
			x.t.Fatal(err)
		}
	}
}

func (x *trusted) copy(ctx context.Context) error {
	ctx, ci := fs.AddConfig(ctx)
	ci.LowLevelRetries = 1
	src := find(x.t, newFs(x.t, "blockdev:localhost"+filepath.Dir(x.source)), "source")
	name := filepath.Base(x.target)
	_, err := operations.Copy(ctx, x.f, find(x.t, x.f, name), name, src)
	return err
}

// again copies once more, says what the log has, and compares the ends.
func (x *trusted) again() *logged {
	x.t.Helper()
	log := listen(x.t)
	if err := x.copy(x.t.Context()); err != nil {
		x.t.Fatal(err)
	}
	harness.Same(x.t, x.source, x.target)
	return log
}

// imageTarget is an empty image as large as the source.
func imageTarget(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "target")
	write(t, path, nil)
	if err := os.Truncate(path, trustSize); err != nil {
		t.Fatal(err)
	}
	return path
}

func poke(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("behind its back"), at)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What was done is not read again on the target, but for a sample, when nobody has written to it; else all is compared,
// with a notice. The target ends as the source in any case.
func TestTrust(t *testing.T) {
	device := func(t *testing.T) string { return harness.Loop(t, trustSize).Path }
	const stripe = block.StripeSize
	for name, c := range map[string]struct {
		target    func(t *testing.T) string
		meanwhile func(x *trusted)
		trusted   int64
		notice    string
	}{
		"image":           {imageTarget, func(*trusted) {}, 2 * stripe, ""},
		"device":          {device, func(*trusted) {}, 2 * stripe, ""},
		"image, written":  {imageTarget, func(x *trusted) { poke(t, x.target, 5<<20) }, 0, "not trusted, and all is compared"},
		"device, written": {device, func(x *trusted) { poke(t, x.target, 5<<20) }, 0, "not trusted, and all is compared"},
		"source changed":  {imageTarget, func(x *trusted) { poke(t, x.source, 5<<20) }, stripe, ""},
		"other order": {imageTarget, func(x *trusted) {
			x.f.opt.Resume = 0
			x.relay.CutAfter(trustData / 2)
			_ = x.copy(t.Context())
			x.relay.Reset()
			x.f.opt.Resume = resumeTrust
		}, 0, ""},
		"a receipt": {imageTarget, func(x *trusted) { x.f.opt.Receipt = t.TempDir() }, 0, "resume = trust has no effect: a receipt"},
		"full":      {imageTarget, func(x *trusted) { x.f.opt.Verify = Verification(wire.VerifyFull) }, 0, "resume = trust has no effect: verify = full"},
		"order":     {imageTarget, func(x *trusted) { x.f.opt.Resume = 0 }, 0, ""},
		"interrupted once more": {device, func(x *trusted) {
			x.relay.CutAfter(trustData / 2)
			if err := x.copy(t.Context()); err == nil {
				t.Error("was not cut")
			}
			x.relay.Reset()
		}, 2 * stripe, ""},
	} {
		t.Run(name, func(t *testing.T) {
			x := interrupted(t, c.target(t))
			c.meanwhile(x)
			log := x.again()
			if n := max(log.counter("trusted"), 0); n != c.trusted {
				t.Errorf("trusted %d, want %d: %s", n, c.trusted, log.text())
			}
			if said := strings.Contains(log.text(), "no effect") || strings.Contains(log.text(), "not trusted, and"); said != (c.notice != "") || !strings.Contains(log.text(), c.notice) {
				t.Errorf("%s", log.text())
			}
			if n := log.counter("targetRead") + log.counter("targetHoles") + c.trusted; n != trustSize {
				t.Errorf("%d bytes of the target are accounted for", n)
			}
			if c.trusted > 0 && log.counter("trustSample") != stripe {
				t.Errorf("%d bytes were a sample", log.counter("trustSample"))
			}
		})
	}
}

// A sample finds what the host does not see, here by a journal that says what was never so.
func TestTrust_Sample(t *testing.T) {
	x := interrupted(t, imageTarget(t))
	file, page := noted(t, x.f)
	if len(page.Known) != 2 {
		t.Fatalf("%+v", page)
	}
	for i := range page.Known {
		page.Known[i].Root = strings.Repeat("00", 32)
	}
	text, err := json.Marshal(page)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, text)
	if log := x.again(); !strings.Contains(log.text(), "a sample of the target") || log.counter("trusted") > 0 {
		t.Errorf("%s", log.text())
	}
}

// A line that breaks in the middle of a run is no doubt: the helper that has ended has left its proof.
func TestTrust_Lost(t *testing.T) {
	x := interrupted(t, harness.Loop(t, trustSize).Path)
	x.f.opt.RetryTime = fs.Duration(60e9)
	x.relay.CutAfter(trustData / 2)
	log := x.again()
	if !strings.Contains(log.text(), "again, going on") || log.counter("trusted") != 2*block.StripeSize {
		t.Errorf("%s", log.text())
	}
}

// A copy that ends at a limit, as one for each night does, has done for good what it has done: the next one does not read
// that on the target.
func TestTrust_Limits(t *testing.T) {
	for name, end := range map[string]func(x *trusted) error{
		"max-transfer": func(x *trusted) error {
			ctx, _ := stats(x.t)
			ctx, ci := fs.AddConfig(ctx)
			ci.MaxTransfer, ci.CutoffMode = 2*block.StripeSize+1<<20, fs.CutoffModeHard
			return x.copy(ctx)
		},
		"max-duration": func(x *trusted) error {
			ctx, ci := fs.AddConfig(x.t.Context())
			ci.MaxDuration, ci.LowLevelRetries = fs.Duration(10*time.Second), 1
			x.relay.Trickle(trustData / 4) // four seconds for a stripe
			return rsync.CopyDir(ctx, x.f, newFs(x.t, "blockdev:localhost"+filepath.Dir(x.source)), false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := toTrust(t, filepath.Join(t.TempDir(), "source"))
			write(t, x.target, nil)
			if err := os.Truncate(x.target, trustSize); err != nil {
				t.Fatal(err)
			}
			if err := end(x); err == nil {
				t.Fatal("it did not end")
			}
			x.relay.Reset()
			x.relay.Trickle(0)
			x.free()
			log := x.again()
			if n := log.counter("trusted"); n < block.StripeSize || n > 2*block.StripeSize || log.counter("targetRead")+log.counter("targetHoles")+n != trustSize {
				t.Errorf("trusted %d: %s", n, log.text())
			}
		})
	}
}

// What is known is of this run and of no byte twice, whatever is in the file, and the rest is all that is not known.
func TestJournal_Known(t *testing.T) {
	const size = 2*block.StripeSize + 5
	f := here(t, t.TempDir()).(*Fs)
	j := journalOf(t, f, "k", size)
	if known, lost, err := j.begin("aa", ""); len(known) != 0 || lost != 0 || err != nil {
		t.Fatalf("%v, %v, %v", known, lost, err)
	}
	j.finish(block.Range{Length: block.StripeSize}, block.Digest{1})
	j.finish(block.Range{Offset: 2 * block.StripeSize, Length: 5}, block.Digest{2})
	j.end(errors.New("lost"))
	reload := func(run, since string, want, wantLost int) []known {
		t.Helper()
		j = journalOf(t, f, "k", size)
		all, lost, err := j.begin(run, since)
		if err != nil || len(all) != want || lost != wantLost {
			t.Errorf("%v, %d, %v", all, lost, err)
		}
		return all
	}
	all := reload("bb", "aa", 2, 0)
	left := rest(block.Stripes(size, 4096), all)
	if len(left) != 1 || left[0].Offset != block.StripeSize || left[0].Length != block.StripeSize {
		t.Errorf("%v", left)
	}
	reload("cc", "bb", 2, 0) // was stored at once
	if err := j.distrust(known{Offset: 1, Length: 1}); err != nil {
		t.Error(err)
	}
	reload("dd", "cc", 1, 0)
	reload("ee", "cc", 0, 1) // another run came between
	reload("ff", "ee", 0, 0)
	for _, bad := range [][]known{{{0, 5, ""}}, {{1, 4, ""}}, {{0, 1 << 20, ""}, {0, 1 << 20, ""}}, {{0, size + 1, ""}}, {{-1 << 20, 1 << 20, ""}}, {{0, -1 << 20, ""}}, {{1 << 62, 1 << 62, ""}}} {
		j.page.Known = bad
		j.end(errors.New("lost"))
		reload("ff", "ff", 0, len(bad))
	}
	ranges := []block.Range{{Offset: 20, Length: 10}, {Offset: 0, Length: 20}}
	got := rest(ranges, []known{{2, 3, ""}, {5, 1, ""}, {18, 4, ""}, {29, 9, ""}})
	if want := []block.Range{{Offset: 22, Length: 7}, {Offset: 0, Length: 2}, {Offset: 6, Length: 12}}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	j.end(nil)
}
