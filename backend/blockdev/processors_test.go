package blockdev

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// The helpers of a transfer are told that they share the processors of their host.
func TestShareProcessors(t *testing.T) {
	dir, logs := t.TempDir(), t.TempDir()
	tee := filepath.Join(logs, "helper")
	script := fmt.Sprintf("#!/bin/sh\ntee %s/$$.heard | %s \"$@\"\n", logs, harness.Bin(t, "blockdev-helper"))
	if err := os.WriteFile(tee, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/img", nil)
	if err := os.Truncate(dir+"/img", 2*block.StripeSize); err != nil {
		t.Fatal(err)
	}
	away, _ := overSSHBy(t, dir, tee)
	here := newFs(t, "blockdev:localhost"+dir)
	for _, way := range []struct {
		from, to fs.Fs
		name     string
	}{{here, away, "pushed"}, {away, here, "pulled"}} {
		if _, err := way.to.Features().Copy(t.Context(), find(t, way.from, "img"), way.name); err != nil {
			t.Fatal(err)
		}
	}
	got := map[wire.Type][]uint8{}
	files, _ := filepath.Glob(logs + "/*.heard")
	for _, file := range files {
		shares(t, file, got)
	}
	for _, kind := range []wire.Type{wire.TypeReceive, wire.TypeSend} {
		if len(got[kind]) != 2 || got[kind][0] != 2 || got[kind][1] != 2 {
			t.Errorf("requests of type %#x with shares %d, want those of 2 streams", kind, got[kind])
		}
	}
}

// shares adds the shares that the requests in file have.
func shares(t *testing.T, file string, got map[wire.Type][]uint8) {
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
