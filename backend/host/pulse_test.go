package host

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// hanging gives the session of a helper with these features, which is greeted and says nothing more for a time of its
// own. In a bubble hours pass at once.
func hanging(t *testing.T, features wire.Features, keepalive time.Duration) (s *Session, alive *int, end func()) {
	t.Helper()
	near, far := net.Pipe()
	alive, done := new(int), make(chan struct{})
	go func() {
		defer close(done)
		r, w := wire.NewReader(far), wire.NewWriter(far)
		hello := helper.Hello()
		hello.Features = features
		if w.WriteMagic() != nil || w.Write(hello) != nil {
			return
		}
		if _, err := r.SkipTo(wire.Magic); err != nil {
			return
		}
		for {
			f, err := r.Next()
			if err != nil {
				return
			}
			if f.Type == wire.TypeAlive {
				*alive++
			}
			f.Release()
		}
	}()
	cfg := Config{Host: "fake", KeepAlive: fs.Duration(keepalive)}
	s, err := newSession(t.Context(), newHost(cfg), &connection{}, fakeStream{near, "it fell over"})
	if err != nil {
		t.Fatal(err)
	}
	return s, alive, func() { far.Close(); <-done; s.close() }
}

// A helper that hangs is taken for lost, by those who wait for it and in the pool.
func TestSession_Silence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, end := hanging(t, wire.FeatureAlive, time.Second)
		defer end()
		start := time.Now()
		_, err := s.Stat(t.Context(), "/")
		wantError(t, err, KindLost, true, "fake", "nothing came from the helper for 2m0s")
		if took := time.Since(start); took != wire.AliveLimit {
			t.Errorf("took %v", took)
		}
		if s.alive() {
			t.Error("counts as alive")
		}
	})
	harness.Tried(t, "silence-helper", 1)
}

// Signs of life are sent to those who know them, also by an idle session, and an older helper is waited for.
func TestSession_Alive(t *testing.T) {
	for name, c := range map[string]struct {
		features  wire.Features
		keepalive time.Duration
		want      int
	}{
		"both know them":     {wire.FeatureAlive, time.Second, 7},
		"an older helper":    {wire.FeatureSharedClaim, time.Second, 0},
		"keepalive is off":   {wire.FeatureAlive, 0, 0},
		"neither knows them": {0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, alive, end := hanging(t, c.features, c.keepalive)
				time.Sleep(7*wire.AliveEvery + time.Second) // less than the limit
				synctest.Wait()
				if *alive != c.want {
					t.Errorf("%d signs of life", *alive)
				}
				if !s.alive() {
					t.Error("does not count as alive")
				}
				end()
			})
		})
	}
}

// What the user sees of a helper that is newer than this program.
func TestSession_MandatoryFrame(t *testing.T) {
	s := played(t, func(r *wire.Reader, w *wire.Writer, conn net.Conn) {
		_, _ = r.Next()
		_, _ = conn.Write([]byte("\x7e\x00\x00\x00\x00\x00\x00\x00"))
		drain(r)
	})
	_, err := s.Stat(t.Context(), "/")
	wantError(t, err, KindLost, false, "fake", "type 0x7e", "version 1", helper.Version())
	if strings.Count(err.Error(), "version 1") < 2 {
		t.Errorf("it does not name both versions: %v", err)
	}
}
