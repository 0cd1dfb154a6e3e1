package helper

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
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

// logName names the file of a log to a client. It is a hash, since files may have names
// that do not cross the wire, or not whole.
func logName(path string) string {
	sum := block.Sum([]byte(filepath.Base(path)))
	return hex.EncodeToString(sum[:16])
}

// place stands for the directory of a log, the target and the boot: where a log that is
// not found any more was found before.
func place(dir string, o *device.Object) (string, error) {
	info, err := device.Stat(dir)
	if err != nil {
		return "", err
	}
	return logName(bootID() + " " + info.ID + " " + o.Info().ID), nil
}

// isGone tells that the log that a client names is not there any more, where found is the
// newest one, or err why there is none. When it is there, and not the newest, nothing must
// be done.
func isGone(dir string, w *wire.Which, found log, err error) (gone bool, _ error) {
	switch {
	case w.Log == "", err != nil && !errors.Is(err, recovery.ErrNone), err == nil && logName(found.Log()) == w.Log:
		return false, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(entries, func(e os.DirEntry) bool { return logName(e.Name()) == w.Log }) {
		return false, wire.Errorf(wire.CodeRefused, "%s: what was found there first is not the newest log of the target any more: look which disk that is, and whether it was copied to meanwhile", dir)
	}
	return true, nil
}

// found are the properties of what was found of a log, and of where it was.
func (s *session) found(dir string, o *device.Object, log string, more ...wire.Property) error {
	where, err := place(dir, o)
	if err != nil {
		return err
	}
	all := append(more, wire.Property{Key: "place", Value: where})
	if log == "" {
		all = append(all, wire.Property{Key: "gone", Value: "true"})
	} else {
		all = append(all, wire.Property{Key: "log", Value: tail(log)}, wire.Property{Key: "which", Value: logName(log)})
	}
	return s.w.Write(&wire.Properties{Properties: all})
}

// tail is as much of the end of a path as a property may have.
func tail(path string) string { return path[max(0, len(path)-wire.MaxName):] }
