//go:build unix

package helper

import (
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Without the options for proof and undo there is no layer between the receiver and the target, and no log beside it.
func TestServe_OptionsOff(t *testing.T) {
	path := file(t, "image", mixed(1<<20, 1))
	s := &session{leads: true}
	req := openWrite(path, 1<<20)
	o, notices, err := s.openTarget(&request{ctx: t.Context()}, path, req, device.WriteOptions{Size: req.Size, Lead: true, Claim: device.Token(req.Claim)})
	if err != nil || len(notices) > 0 {
		t.Fatal(notices, err)
	}
	defer o.Close()
	if s.undo != nil || s.spool != nil || s.verify != wire.VerifyOff {
		t.Error("a log or a check without its option")
	}
	if tgt, plain := s.kept(o).(target); !plain {
		t.Errorf("the receiver writes to %T", tgt)
	}
	tgt := s.kept(o)
	if n := testing.AllocsPerRun(100, func() { _ = s.completed(nil, tgt, nil) }); n > 0 {
		t.Errorf("%v allocations for a range that is complete", n)
	}
}
