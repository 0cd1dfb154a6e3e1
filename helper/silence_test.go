package helper

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// silent runs a helper in a bubble, in which hours pass at once, and a client that greets it with these features, begins
// something, and says nothing more for a time of its own. It returns how long the helper lasted, and how it ended.
func silent(t *testing.T, features wire.Features, lasts time.Duration, begin ...wire.Message) (lasted time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		served := make(chan error, 1)
		start := time.Now()
		go func() { served <- Serve(context.Background(), far, Policy{}) }()
		alive := 0
		go func() {
			r := wire.NewReader(near)
			if _, err := r.SkipTo(wire.Magic); err != nil {
				return
			}
			for {
				f, err := r.Next()
				if err != nil {
					return
				}
				if f.Type == wire.TypeAlive {
					alive++
				}
				f.Release()
			}
		}()
		w := wire.NewWriter(near)
		if begin != nil {
			hello := Hello()
			hello.Features = features
			for _, m := range append([]wire.Message{hello}, begin...) {
				if m == hello && w.WriteMagic() != nil || w.Write(m) != nil {
					t.Errorf("%T was not taken", m)
				}
			}
		}
		select {
		case err = <-served:
		case <-time.After(lasts):
			near.Close()
			err = <-served
		}
		lasted = time.Since(start)
		synctest.Wait()
		if want := int(lasted / wire.AliveEvery); features&wire.FeatureAlive != 0 && (alive < want-1 || alive > want+1) {
			t.Errorf("the helper said %d times in %v that it is there", alive, lasted)
		}
	})
	return lasted, err
}

// A helper whose client has said that it would say so, and does not say that it is there, ends and lets go of what is
// open, whatever it does. One that was not told so waits.
func TestServe_Silence(t *testing.T) {
	path := file(t, "image", harness.RecordedContent(3<<20, 1))
	other := file(t, "other", harness.RecordedContent(3<<20, 1))
	receive := []wire.Message{openWrite(path, 3<<20), wire.NewReceive(rangeOf(3<<20), 8)}
	const long = 40 * time.Hour
	for name, c := range map[string]struct {
		features wire.Features
		begin    []wire.Message
		ends     bool
	}{
		"idle":                     {wire.FeatureAlive, []wire.Message{stat("/")}, true},
		"receiving":                {wire.FeatureAlive, receive, true},
		"sending":                  {wire.FeatureAlive, []wire.Message{openRead(other), wire.NewSend(rangeOf(3<<20), 8)}, true},
		"reading":                  {wire.FeatureAlive, []wire.Message{openRead(other), &wire.Read{Length: 3 << 20, Window: 1}}, true},
		"open to write":            {wire.FeatureAlive, receive[:1], true},
		"no greeting":              {0, nil, true},
		"an older client, idle":    {0, []wire.Message{stat("/")}, false},
		"an older client, at work": {wire.FeatureSharedClaim, receive, false},
	} {
		t.Run(name, func(t *testing.T) {
			lasted, err := silent(t, c.features, long, c.begin...)
			if c.ends && (lasted < wire.AliveLimit || lasted > wire.AliveLimit+wire.AliveEvery || !errors.Is(err, errSilent)) {
				t.Errorf("ended after %v: %v", lasted, err)
			}
			if !c.ends && (lasted != long || err != nil) {
				t.Errorf("ended after %v: %v", lasted, err)
			}
			again := connect(t, Policy{}) // nothing holds the target any more
			again.call(openWrite(path, 3<<20), new(wire.Opened))
			again.hangUp()
			if c.ends {
				harness.Tried(t, "silence-client", 1)
			}
		})
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// A client that says that it is there may be idle, and its source slow, for as long as it likes.
func TestServe_Alive(t *testing.T) {
	path := file(t, "image", make([]byte, 3<<20))
	for name, begin := range map[string][]wire.Message{
		"idle":      {openRead(path)},
		"receiving": {openWrite(path, 3<<20), wire.NewReceive(block.Range{Length: 3 << 20, BlockSize: block.DefaultSize}, 8)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				served := make(chan error, 1)
				go func() { served <- Serve(context.Background(), far, Policy{}) }()
				r, w := wire.NewReader(near), wire.NewWriter(near)
				heard := make(chan struct{})
				go func() {
					defer close(heard)
					if _, err := r.SkipTo(wire.Magic); err != nil {
						return
					}
					for {
						f, err := r.Next()
						if err != nil {
							return
						}
						f.Release()
					}
				}()
				hello := Hello()
				if w.WriteMagic() != nil {
					t.Error("no magic")
				}
				for _, m := range append([]wire.Message{hello}, begin...) {
					if err := w.Write(m); err != nil {
						t.Error(err)
					}
				}
				done := make(chan struct{})
				go w.Pulse(done)
				select {
				case err := <-served:
					t.Errorf("ended: %v", err)
				case <-time.After(9 * time.Hour):
				}
				close(done)
				near.Close()
				<-heard
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
