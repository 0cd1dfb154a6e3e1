package host

import (
	"errors"
	"io"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func TestPipe(t *testing.T) {
	harness.Goroutines(t)
	p := serveHere()
	got := make([]byte, len(wire.Magic))
	if _, err := io.ReadFull(p, got); err != nil || string(got) != wire.Magic {
		t.Errorf("%q, %v", got, err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.Read(got); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("read after close: %v", err)
	}
	if p.Diagnosis() == "" {
		t.Error("no diagnosis")
	}
	p = serveHere() // one that is told nonsense says why it ended
	go func() { _, _ = io.Copy(io.Discard, p) }()
	if _, err := p.Write(append([]byte(wire.Magic), make([]byte, 100)...)); err == nil {
		<-p.served
	}
	if p.err == nil || p.Diagnosis() != p.err.Error() {
		t.Errorf("%q, %v", p.Diagnosis(), p.err)
	}
	p.Close()
}
