package host

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

var update = flag.Bool("update", false, "record the session of this version of the protocol anew")

// recorded is a session of version 1, of before the frame Alive. Until the first release it may be recorded anew when a
// message changes; then it stays as it is for as long as that version is spoken, and a new version gets a file of its own.
const recorded = "../../helper/testdata/session-v1.txt"

// steps is what is done in the recorded session.
func steps(ctx context.Context, s *Session, dir string) error {
	path := filepath.Join(dir, "disk.img")
	_, after := harness.RecordedImages()
	r := block.Range{Length: int64(len(after)), BlockSize: block.DefaultSize}
	if _, err := s.Stat(ctx, filepath.Join(dir, "none")); !errors.Is(err, wire.CodeNotFound) {
		return fmt.Errorf("stat of nothing: %v", err)
	}
	steps := []func() error{
		func() error { _, err := s.Stat(ctx, path); return err },
		func() error { _, err := s.List(ctx, dir); return err },
		func() error { _, err := s.StatFS(ctx, dir); return err },
		func() error { _, err := s.Describe(ctx, path, true); return err },
		func() error { _, err := s.Ping(ctx, 0); return err },
		func() error { return s.Mkdir(ctx, filepath.Join(dir, "a", "b")) },
		func() error { return s.Rmdir(ctx, filepath.Join(dir, "a", "b")) },
		func() error { _, err := s.Open(ctx, writeRequest(path, r.Length)); return err },
		func() error { _, err := SendTo(ctx, memdev.FromBytes(after), s, r); return err },
		func() error { return s.Close(ctx, true, 1e18) },
		func() error { return s.SetTime(ctx, path, 1e18+1) },
		func() error { _, err := s.OpenRead(ctx, path); return err },
		func() error { _, err := s.Hash(ctx, func(int64) {}); return err },
		func() error { _, err := s.Root(ctx, r, func(int64) {}); return err },
		func() error { return readRecorded(ctx, s, after) },
		func() error {
			tgt := memdev.FromBytes(after)
			if _, err := tgt.WriteAt([]byte("older"), 5000); err != nil {
				return err
			}
			_, err := ReceiveFrom(ctx, s, tgt, r, 8)
			if err == nil && !bytes.Equal(tgt.Bytes(), after) {
				err = errors.New("the target differs")
			}
			return err
		},
		func() error { return s.Close(ctx, false, 0) },
		func() error { return s.Remove(ctx, path) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// readRecorded reads a part of the image that has a zero block.
func readRecorded(ctx context.Context, s *Session, image []byte) error {
	const off, n = 1<<20 + 9*4096, 3 * 4096
	r, err := s.Read(ctx, off, n)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(got, image[off:off+n]) {
		err = errors.New("what was read differs")
	}
	r.Close()
	return err
}

// recordedSession is a session on a stream, as one in this process.
func recordedSession(ctx context.Context, conn net.Conn) (*Session, error) {
	return newSession(ctx, newHost(Config{Host: Localhost}), nil, fakeStream{conn, "it ended"})
}

// TestRecorded plays the helper of an older release to this client: it does the same, and says the same to it.
func TestRecorded(t *testing.T) {
	if *update {
		recordSession(t)
	}
	lines := harness.ReadRecording(t, recorded).Lines
	for name, grease := range map[string]bool{"as it was": false, "with unknown optional frames": true} {
		t.Run(name, func(t *testing.T) {
			harness.Goroutines(t)
			dir := t.TempDir()
			near, far := net.Pipe()
			p := &harness.Player{Dir: dir, As: harness.FromHelper, Grease: grease, Optional: unsteady, Alike: depends}
			played := make(chan error, 1)
			go func() {
				err := p.Play(far, lines)
				if err != nil {
					far.Close() // nobody answers the client any more
				}
				played <- err
			}()
			s, err := recordedSession(t.Context(), near)
			if err == nil {
				err = steps(t.Context(), s, dir)
				s.close()
			}
			if said := <-played; err != nil || said != nil {
				t.Errorf("the client: %v\nthe helper of the recording: %v", err, said)
			}
			far.Close()
			harness.Tried(t, "older-helper", 1)
		})
	}
}

// unsteady tells which frames come as often as it happens.
func unsteady(kind byte) bool {
	t := wire.Type(kind)
	return t&wire.Optional != 0 || t == wire.TypeAdvance || t == wire.TypeWindow || t == wire.TypeProgress ||
		t == wire.TypeNotice || t == wire.TypeProperties
}

// depends tells which payloads depend on the machine.
func depends(kind byte) bool {
	switch wire.Type(kind) {
	case wire.TypeHello, wire.TypeEntries, wire.TypeOpened, wire.TypeUsage, wire.TypeError:
		return true
	}
	return false
}

// recordSession writes the recording.
func recordSession(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	before, _ := harness.RecordedImages()
	if err := os.WriteFile(filepath.Join(dir, "disk.img"), before, 0o600); err != nil {
		t.Fatal(err)
	}
	client, near := net.Pipe()
	far, server := net.Pipe()
	rec := harness.NewRecorder(dir)
	joined := make(chan struct{})
	go func() { defer close(joined); rec.Join(near, far) }()
	served := make(chan error, 1)
	go func() { served <- helper.Serve(context.Background(), server, helper.Policy{}) }()
	s, err := recordedSession(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	if err := steps(t.Context(), s, dir); err != nil {
		t.Fatal(err)
	}
	s.close()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	<-joined
	rec.Recording().Write(t, recorded, "A session of version 1 of the protocol; see backend/host/recorded_test.go.")
}
