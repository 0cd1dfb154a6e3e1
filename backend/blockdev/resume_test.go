package blockdev

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// A copy over a line that breaks goes on: one transfer, of which each byte is counted once, and said once for each loss.
func TestLost_Copy(t *testing.T) {
	const size = 40 << 20
	from, to := t.TempDir(), t.TempDir()
	data := edges.Contents()[1].Make(size, 3)
	write(t, from+"/img", data)
	f, relay := overSSH(t, to)
	back, _ := overSSH(t, from)
	local := newFs(t, from)
	ctx, totals := stats(t)
	ctx, ci := fs.AddConfig(ctx)
	ci.LowLevelRetries = 1
	log := listen(t)
	for name, copy := range map[string]func() error{
		"push": func() error {
			_, err := operations.Copy(ctx, f, nil, "push", find(t, local, "img"))
			return err
		},
		"stream": func() error {
			_, err := f.Put(ctx, bytes.NewReader(data), info("stream", size))
			return err
		},
		"pull": func() error {
			pulled := newFs(t, "blockdev:localhost"+to)
			_, err := operations.Copy(ctx, pulled, nil, "pull", find(t, back, "img"))
			return err
		},
	} {
		lines, before := log.text(), totals.GetBytes()
		relay.Reset()
		relay.CutAfter(15 << 20)
		if err := copy(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		same(t, to+"/"+name, data)
		said := strings.TrimPrefix(log.text(), lines)
		cuts := map[string]int{"pull": 0}[name]
		if name != "pull" {
			cuts = 1
		}
		if lost, again := strings.Count(said, "lost, resuming"), strings.Count(said, "again, going on"); lost != cuts || again != cuts {
			t.Errorf("%s: lost %d times, back %d times: %s", name, lost, again, said)
		}
		if n := totals.GetBytes() - before; n != size && name != "stream" { // Put has no account
			t.Errorf("%s: %d bytes counted", name, n)
		}
		if total := relay.Total(); cuts > 0 && total > size+16<<20 {
			t.Errorf("%s: %d bytes crossed", name, total)
		}
	}
}

// What is no lost connection is not tried again, nor is a refusal when the host is there again, and the time ends.
func TestResume(t *testing.T) {
	gone := &host.Error{Host: "h", Kind: host.KindLost, Retryable: true, Err: io.ErrUnexpectedEOF}
	refusal := refuse("no")
	busy := wire.Errorf(wire.CodeBusy, "busy")
	for name, c := range map[string]struct {
		limit  time.Duration
		err    error
		opens  []error // of the attempts, the last one again and again
		want   error
		atMost int
	}{
		"again at once":    {time.Minute, gone, []error{nil}, nil, 1},
		"again later":      {time.Minute, gone, []error{gone, busy, nil}, nil, 3},
		"refused":          {time.Minute, gone, []error{gone, refusal}, refusal, 2},
		"another failure":  {time.Minute, refusal, nil, refusal, 0},
		"time is over":     {time.Second, gone, []error{gone}, gone, 4},
		"no time is given": {0, gone, nil, gone, 0},
	} {
		r, attempts := &resume{limit: c.limit}, 0
		err := r.after(t.Context(), c.err, func(context.Context) error {
			attempts++
			return c.opens[min(attempts, len(c.opens))-1]
		})
		if !errors.Is(err, c.want) || attempts > c.atMost || c.atMost > 0 && attempts == 0 {
			t.Errorf("%s: %d attempts, %v", name, attempts, err)
		}
	}
}

// A helper that ends at the same place each time is given up in the end, one that comes further is not.
func TestResume_Progress(t *testing.T) {
	gone := &host.Error{Host: "h", Kind: host.KindLost, Retryable: true, Err: io.ErrUnexpectedEOF}
	for _, moves := range []bool{false, true} {
		r, done := &resume{limit: 300 * time.Millisecond}, 0
		err := r.run(t.Context(), func(context.Context) error {
			if done++; done == 10 && moves {
				return nil
			}
			if moves {
				r.progress()
			}
			return gone
		}, func(context.Context) error { return nil })
		if (err == nil) != moves {
			t.Errorf("moves %v: %v after %d times", moves, err, done)
		}
	}
}

// A context that ends is not waited for.
func TestResume_Cancel(t *testing.T) {
	gone := &host.Error{Host: "h", Kind: host.KindLost, Retryable: true, Err: io.ErrUnexpectedEOF}
	ctx, cancel := context.WithCancel(t.Context())
	r, start := &resume{limit: time.Hour}, time.Now()
	time.AfterFunc(400*time.Millisecond, cancel)
	if err := r.after(ctx, gone, func(context.Context) error { return gone }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// What the target may be when the connection is there again, and what is done once more.
func TestTarget_same(t *testing.T) {
	open := func(boot string, kind wire.Kind, size, allocated int64, id string) *lease {
		e := wire.Entry{Kind: kind, Allocated: allocated, ID: id}
		return &lease{s: &host.Session{Hello: wire.Hello{BootID: boot}}, opened: &wire.Opened{Size: size, Entry: e}}
	}
	file := func(boot string, allocated int64, id string) *lease {
		return open(boot, wire.KindFile, 10, allocated, id)
	}
	disk := func(boot, id string) *lease { return open(boot, wire.KindBlock, 10, -1, id) }
	for name, c := range map[string]struct {
		old, now *lease
		proved   bool
		void, ok bool
	}{
		"file":                         {file("a", 0, "f:1"), file("a", 4096, "f:1"), false, false, true},
		"file made anew":               {file("a", 0, "f:1"), file("a", 0, "f:1"), false, true, true},
		"file after a restart":         {file("a", 0, "f:1"), file("b", 4096, "f:2"), false, true, true},
		"another file":                 {file("a", 0, "f:1"), file("a", 4096, "f:2"), false, false, false},
		"file where boots are unknown": {file("", 0, "f:1"), file("", 4096, "f:1"), false, true, true},
		"device":                       {disk("a", "b:1"), disk("a", "b:1"), false, false, true},
		"another device":               {disk("a", "b:1"), disk("a", "b:2"), true, false, false},
		"known device after a restart": {disk("a", "b:1"), disk("b", "b:2"), true, false, true},
		"device after a restart":       {disk("a", "b:1"), disk("b", "b:1"), false, false, false},
		"file for a device":            {disk("a", "b:1"), file("a", 4096, "b:1"), true, false, false},
		"another size":                 {disk("a", "b:1"), open("a", wire.KindBlock, 11, -1, "b:1"), true, false, false},
	} {
		tg := &target{lead: c.old, at: place{host.Get(host.Config{Host: host.Localhost}), "/x"}}
		void, err := tg.same(c.now, c.proved)
		if void != c.void || (err == nil) != c.ok || err != nil && !fserrors.IsNoRetryError(err) {
			t.Errorf("%s: %v, %v", name, void, err)
		}
	}
}
