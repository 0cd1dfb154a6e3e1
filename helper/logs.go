package helper

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/recovery"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// subject is o as the log of an undo has it.
func subject(o *device.Object) recovery.Subject {
	lasting, _ := o.IDs()
	return recovery.Subject{Path: o.Path(), IDs: lasting, File: o.Info().Kind == device.File, Size: o.Info().Size}
}

// logDir is a directory that the client names for a log, when the policy allows it
// and it is one.
func (s *session) logDir(dir string) (string, error) {
	dir, err := s.policy.check(dir, true)
	if err == nil {
		err = device.MayKeep(dir)
	}
	switch {
	case errors.Is(err, device.ErrNotFound):
		return "", wire.Errorf(wire.CodeRefused, "%s: the directory for what is kept does not exist: make it first, on a disk of this host", dir)
	case err != nil:
		return "", fmt.Errorf("the directory for what is kept: %w", err)
	}
	return dir, nil
}

// openLogged opens a target of which there is a log, as a copy opens it, to be brought
// back or completed. dir is where that is.
func (s *session) openLogged(path, named string) (o *device.Object, dir string, err error) {
	if dir, err = s.logDir(named); err != nil {
		return nil, "", err
	}
	if s.open != nil {
		return nil, "", wire.Errorf(wire.CodeProtocol, "protocol error: %s is still open", s.open.Path())
	}
	info, err := device.Stat(path)
	if err != nil {
		return nil, "", err
	}
	apart := func(o *device.Object) error { return o.Apart(dir) }
	o, err = device.OpenWrite(path, device.WriteOptions{Size: info.Size, Seen: &info.Kind, Guard: s.policy.guard(path), Prepare: apart})
	return o, dir, err
}

// log is what there is of one: an undo or a spool.
type log interface {
	Log() string // its file
	Notices() []string
}

// skipped tells of the other logs that cannot be read.
func (s *session) skipped(l log) error {
	for _, n := range l.Notices() {
		if err := s.w.Write(&wire.Notice{Text: wire.Clip(n)}); err != nil {
			return err
		}
	}
	return nil
}

// isGone tells that the log that a client names is not the newest one, which was found
// or not.
func isGone(w *wire.Which, found log, err error) bool {
	if w.Log == "" || err != nil {
		return w.Log != "" && errors.Is(err, recovery.ErrNone)
	}
	return filepath.Base(found.Log()) != w.Log
}

// logGone is the answer then.
func logGone() *wire.Properties {
	return &wire.Properties{Properties: []wire.Property{{Key: "gone", Value: "true"}}}
}

// tail is as much of the end of a path as a property may have.
func tail(path string) string { return path[max(0, len(path)-wire.MaxName):] }
