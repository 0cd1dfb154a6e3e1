package blockdev

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// heard gives the Fs of dir behind an SSH server, whose helpers leave what they hear in logs. The script goes before.
func heard(t *testing.T, dir, logs, script string) (fs.Fs, *harness.Relay) {
	t.Helper()
	tee := filepath.Join(logs, "helper")
	script = fmt.Sprintf("#!/bin/sh\n%s\ntee %s/$$.heard | %s \"$@\"\n", script, logs, harness.Bin(t, "blockdev-helper"))
	if err := os.WriteFile(tee, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return overSSHBy(t, dir, tee)
}

// stripesOf makes an image of so many stripes, each with something in it.
func stripesOf(t *testing.T, path string, n int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range n {
		if _, err := f.WriteAt([]byte{1}, i*block.StripeSize); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(n * block.StripeSize); err != nil {
		t.Fatal(err)
	}
}

// The helpers of a transfer are told that they share the processors of their host.
func TestShareProcessors(t *testing.T) {
	dir, logs := t.TempDir(), t.TempDir()
	stripesOf(t, dir+"/img", 2)
	away, _ := heard(t, dir, logs, "")
	here := newFs(t, "blockdev:localhost"+dir)
	for _, way := range []struct {
		from, to fs.Fs
		name     string
		asked    []wire.Type
		want     uint8
	}{
		{here, away, "pushed", []wire.Type{wire.TypeReceive}, 2},
		{away, here, "pulled", []wire.Type{wire.TypeSend}, 2},
		{away, away, "on one host", []wire.Type{wire.TypeReceive, wire.TypeSend}, 4},
	} {
		before := shares(t, logs)
		if _, err := way.to.Features().Copy(t.Context(), find(t, way.from, "img"), way.name); err != nil {
			t.Fatal(err)
		}
		all := shares(t, logs)
		for _, kind := range way.asked {
			if len(all[kind]) != len(before[kind])+2 || !slices.Contains(all[kind], way.want) { // the last one may be alone
				t.Errorf("%s: requests of type %#x with shares %d, before %d, want %d", way.name, kind, all[kind], before[kind], way.want)
			}
		}
	}
}

// One that stays alone, as where the server allows no further session, has all processors again.
func TestShareProcessors_Alone(t *testing.T) {
	dir, logs := t.TempDir(), t.TempDir()
	stripesOf(t, dir+"/img", 8)
	away, relay := heard(t, dir, logs, "ls "+logs+"/*.heard >/dev/null 2>&1 && exit 1")
	relay.Delay(10 * time.Millisecond)
	o := find(t, newFs(t, "blockdev:localhost"+dir), "img")
	if _, err := away.Features().Copy(t.Context(), o, "pushed"); err != nil {
		t.Fatal(err)
	}
	got := shares(t, logs)[wire.TypeReceive]
	if len(got) != 8 || got[0] != 4 || got[7] != 1 {
		t.Errorf("shares %d of 8 stripes, want 4 at first and 1 at last", got)
	}
}

// shares are those of the requests in logs, by type.
func shares(t *testing.T, logs string) map[wire.Type][]uint8 {
	t.Helper()
	got := map[wire.Type][]uint8{}
	files, _ := filepath.Glob(logs + "/*.heard")
	for _, file := range files {
		sharesIn(t, file, got)
	}
	return got
}

func sharesIn(t *testing.T, file string, got map[wire.Type][]uint8) {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r := wire.NewReader(in)
	if _, err := r.SkipTo(wire.Magic); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := r.Next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // it may run yet
			return
		case err != nil:
			t.Fatal(err)
		}
		var send wire.Send
		var receive wire.Receive
		switch f.Type {
		case wire.TypeSend:
			err = f.Decode(&send)
			got[f.Type] = append(got[f.Type], send.Share)
		case wire.TypeReceive:
			err = f.Decode(&receive)
			got[f.Type] = append(got[f.Type], receive.Share)
		}
		if f.Release(); err != nil {
			t.Fatal(err)
		}
	}
}
