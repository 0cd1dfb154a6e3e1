package helper

import (
	"encoding/hex"
	"slices"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/snapshot"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

var snapshotKinds = map[wire.Snapshotting]string{
	wire.SnapshotNone: "", wire.SnapshotLVM: snapshot.LVM, wire.SnapshotLVMThin: snapshot.LVMThin, wire.SnapshotZFS: snapshot.ZFS,
	wire.SnapshotReflink: snapshot.Reflink, wire.SnapshotCommand: snapshot.Command,
}

// prepared is what Prepare has made ready on a session.
type prepared struct {
	hold *snapshot.Hold
	path string // an Open for reading of it reads the snapshot
}

// prepare makes a transfer's surroundings, or finds those that another session has made.
func (s *session) prepare(r *request) error {
	m, err := decode(s, r, func(m *wire.Prepare) *string { return &m.Path }, false)
	if err != nil {
		return err
	}
	spec, err := s.policy.spec(m)
	if err != nil {
		return err
	}
	s.release()
	hold, err := snapshot.Prepare(r.ctx, spec, m.Follow, s.tell)
	if err != nil {
		return err
	}
	s.prepared = &prepared{hold, m.Path}
	name, _ := hold.Device(m.Path)
	return s.w.Write(&wire.Prepared{Device: clipName(name), Made: hold.Made().UnixNano()})
}

// spec is what m asks for, as far as the policy allows it.
func (p Policy) spec(m *wire.Prepare) (*snapshot.Spec, error) {
	spec := &snapshot.Spec{
		Owner: hex.EncodeToString(m.Owner[:]), Path: m.Path, Write: m.Write, Kind: snapshotKinds[m.Kind], Space: m.Space, Freeze: m.Freeze,
		FreezeTime: time.Duration(m.FreezeTime) * time.Millisecond, Grace: time.Duration(m.Grace) * time.Millisecond,
		Take: m.Take, Drop: m.Drop, Before: m.Before, After: m.After,
	}
	for _, path := range m.Group {
		checked, err := p.check(path, false)
		if err != nil {
			return nil, err
		}
		spec.Group = append(spec.Group, checked)
	}
	restricted := len(p.Allow) > 0 || p.ReadOnly
	programs := len(m.Take)+len(m.Drop)+len(m.Before)+len(m.After) > 0 || m.Kind == wire.SnapshotCommand
	switch {
	case !restricted:
	case programs && !p.AllowHooks:
		return nil, wire.Errorf(wire.CodeRefused, "%s: the helper on this host runs no hooks and no commands: it was not started with --allow-hooks", m.Path)
	case (m.Kind != wire.SnapshotNone && m.Kind != wire.SnapshotCommand || len(m.Freeze) > 0) && !p.AllowSnapshots:
		return nil, wire.Errorf(wire.CodeRefused, "%s: the helper on this host takes no snapshots: it was not started with --allow-snapshots", m.Path)
	}
	if spec.FreezeTime == 0 {
		spec.FreezeTime = 10 * time.Second
	}
	spec.Limited = restricted && !p.AllowHooks
	return spec, nil
}

// tell sends a line for the log. That the client is gone shows at the next reply.
func (s *session) tell(text string) { _ = s.w.Write(&wire.Notice{Text: wire.Clip(text)}) }

func clipName(name string) string { return name[:min(len(name), wire.MaxName)] }

// conclude ends what prepare has begun, in any session.
func (s *session) conclude(r *request) error {
	var m wire.Conclude
	if err := r.frame.Decode(&m); err != nil {
		return err
	}
	s.release()
	outcome := snapshot.Success
	if m.Failed {
		outcome = snapshot.Failed
	}
	return snapshot.Conclude(r.ctx, hex.EncodeToString(m.Owner[:]), outcome, m.Wait, s.tell)
}

// release tells that this session needs what was prepared no longer. It is kept for
// the grace time at least, in which the client concludes it.
func (s *session) release() {
	if s.prepared != nil {
		s.prepared.hold.Release()
		s.prepared = nil
	}
}

// sweep removes what a killed helper has left of snapshots of path, which is about to be opened.
func (s *session) sweep(path string) {
	if len(s.policy.Allow) == 0 && !s.policy.ReadOnly || s.policy.AllowSnapshots {
		snapshot.Sweep(path, s.tell)
	}
}

// openToRead opens what is at path, or its snapshot. That is as large as what it was taken of, and is called by the
// same name.
func (s *session) openToRead(path string) (*device.Object, error) {
	name, id := "", ""
	if s.prepared != nil && s.prepared.path == path {
		name, id = s.prepared.hold.Device(path)
	}
	if name == "" {
		return device.OpenReadGuarded(path, s.policy.guard(path))
	}
	original, err := device.OpenReadGuarded(path, s.policy.guard(path))
	if err != nil {
		return nil, err
	}
	defer original.Close()
	if original.Info().ID != id { // links may have changed, and what is read must be of what is allowed
		return nil, wire.Errorf(wire.CodeSource, "%s: is not what its snapshot was taken of", path)
	}
	o, err := device.OpenRead(name)
	if err != nil {
		return nil, err
	}
	if o.Size() != original.Size() {
		o.Close()
		return nil, wire.Errorf(wire.CodeSource, "%s: has %d bytes, but its snapshot %s has %d", path, original.Size(), o.Path(), o.Size())
	}
	s.original = original.Info()
	return o, nil
}

// snapshots tells of the snapshots on this host, or removes one.
func (s *session) snapshots(r *request) error {
	var m wire.Snapshots
	if err := r.frame.Decode(&m); err != nil {
		return err
	}
	if restricted := len(s.policy.Allow) > 0 || s.policy.ReadOnly; restricted && !s.policy.AllowSnapshots {
		return wire.Errorf(wire.CodeRefused, "the helper on this host takes no snapshots: it was not started with --allow-snapshots")
	}
	listed := slices.DeleteFunc(snapshot.List(r.ctx), func(k snapshot.Kept) bool {
		_, err := s.policy.check(k.Path, false)
		return err != nil
	})
	if m.Remove != "" {
		if !slices.ContainsFunc(listed, func(k snapshot.Kept) bool { return clipName(k.ID) == m.Remove }) {
			return wire.Errorf(wire.CodeNotFound, "%s: there is no such snapshot of ours", m.Remove)
		}
		return snapshot.Remove(r.ctx, m.Remove, s.tell)
	}
	for _, k := range listed {
		kept := &wire.Kept{ID: clipName(k.ID), Kind: k.Kind, Path: clipName(k.Path), Device: clipName(k.Device), State: k.State}
		if !k.Made.IsZero() {
			kept.Made = k.Made.UnixNano()
		}
		if err := s.w.Write(kept); err != nil {
			return err
		}
	}
	return nil
}
