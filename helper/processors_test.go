package helper

import (
	"runtime"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// A helper that is alone in its process uses its share of the processors, as long as a range takes.
func TestServe_Share(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	for _, c := range []struct {
		alone bool
		share uint8
		want  int
	}{{true, 0, 4}, {true, 1, 4}, {true, 2, 2}, {true, 3, 2}, {true, 4, 1}, {true, 255, 1}, {false, 4, 4}} {
		for _, sends := range []bool{false, true} {
			s := connect(t, Policy{Alone: c.alone})
			path := file(t, "image", make([]byte, 1<<20))
			if sends {
				s.call(openRead(path), new(wire.Opened))
				m := wire.NewSend(rangeOf(1<<20), delta.Window)
				m.Share = c.share
				s.send(m)
				s.send(&wire.Digests{Sums: make([]byte, 32)}) // it answers, and waits
			} else {
				s.call(openWrite(path, 1<<20), new(wire.Opened))
				m := wire.NewReceive(rangeOf(1<<20), delta.Window)
				m.Share = c.share
				s.send(m)
			}
			if _, err := s.Next(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if got := runtime.GOMAXPROCS(0); got != c.want {
				t.Errorf("%+v, sends %v: %d processors", c, sends, got)
			}
			s.send(&wire.Cancel{})
			s.end()
			if got := runtime.GOMAXPROCS(0); got != 4 {
				t.Errorf("%+v, sends %v: %d processors afterwards", c, sends, got)
			}
			s.hangUp()
		}
	}
}
