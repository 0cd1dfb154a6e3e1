package helper

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// recorded is made by backend/host, see TestRecorded there.
const recorded = "testdata/session-v1.txt"

// TestRecorded plays an older client to this helper, which must answer as it did then. When it does not, it does not
// understand clients that are in use, and the version of the protocol must be raised.
func TestRecorded(t *testing.T) {
	lines := harness.ReadRecording(t, recorded).Lines
	for name, grease := range map[string]bool{"as it was": false, "with unknown optional frames": true} {
		t.Run(name, func(t *testing.T) {
			conn, dir, served := serveRecorded(t)
			if err := player(dir, grease).Play(conn, lines); err != nil {
				t.Error(err)
			}
			conn.Close()
			if err := <-served; err != nil {
				t.Errorf("Serve returned %v", err)
			}
			harness.Tried(t, "older-client", 1)
		})
	}
}

// A frame that is not optional and not known ends the session at any moment of it, in words that name both ends.
func TestRecorded_MandatoryFrame(t *testing.T) {
	lines := harness.ReadRecording(t, recorded).Lines
	tried := 0
	for i, l := range lines {
		if i < 2 || l.From != harness.FromClient {
			continue // before the greeting there are no types
		}
		tried++
		conn, dir, served := serveRecorded(t)
		p := player(dir, false)
		if err := p.Play(conn, lines[:i]); err != nil {
			t.Fatalf("before frame %d: %v", i+1, err)
		}
		if err := p.Refused(0x7e, byte(wire.TypeError), func(payload []byte) error {
			m := new(wire.Error)
			if err := wire.Unmarshal(payload, m); err != nil {
				return err
			}
			for _, word := range []string{"0x7e", "version 1", Version(), "client"} {
				if !errors.Is(m, wire.CodeProtocol) || !strings.Contains(m.Text, word) {
					return errors.New(m.Text)
				}
			}
			return nil
		}); err != nil {
			t.Errorf("before frame %d: %v", i+1, err)
		}
		if err := <-served; !errors.Is(err, wire.CodeProtocol) {
			t.Errorf("before frame %d: Serve returned %v", i+1, err)
		}
		conn.Close()
	}
	if tried < 20 {
		t.Errorf("only %d moments", tried)
	}
	harness.Tried(t, "mandatory-frame", tried)
}

// serveRecorded starts a helper for the recorded session.
func serveRecorded(t *testing.T) (conn net.Conn, dir string, served chan error) {
	t.Helper()
	harness.Goroutines(t)
	dir = t.TempDir()
	before, _ := harness.RecordedImages()
	if err := os.WriteFile(filepath.Join(dir, "disk.img"), before, 0o600); err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	served = make(chan error, 1)
	go func() { served <- Serve(context.Background(), far, Policy{}) }()
	t.Cleanup(func() { near.Close() })
	return near, dir, served
}

func player(dir string, grease bool) *harness.Player {
	return &harness.Player{Dir: dir, As: harness.FromClient, Grease: grease,
		Optional: func(kind byte) bool {
			switch t := wire.Type(kind); t {
			case wire.TypeAdvance, wire.TypeProgress, wire.TypeNotice, wire.TypeProperties:
				return true
			default:
				return t&wire.Optional != 0
			}
		},
		Alike: func(kind byte) bool {
			switch wire.Type(kind) {
			case wire.TypeHello, wire.TypeEntries, wire.TypeOpened, wire.TypeUsage, wire.TypeError:
				return true
			}
			return false
		},
	}
}
