package helper

import (
	"errors"
	"slices"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
	"github.com/rclone-blockdev/rclone-blockdev/helper/witness"
)

var zeroModes = map[wire.Zeroing]device.ZeroMode{
	wire.ZeroAuto: device.ZeroAuto, wire.ZeroWrite: device.ZeroWrite, wire.ZeroPunch: device.ZeroPunch,
}

var directModes = map[wire.Direct]device.Direct{
	wire.DirectOff: device.DirectOff, wire.DirectAuto: device.DirectAuto, wire.DirectOn: device.DirectOn,
}

// openObject opens what the requests up to Close work on.
func (s *session) openObject(r *request) error {
	var m wire.Open
	if err := r.frame.Decode(&m); err != nil {
		return err
	}
	if s.open != nil {
		return wire.Errorf(wire.CodeProtocol, "protocol error: %s is still open", s.open.Path())
	}
	path, err := s.policy.check(m.Path, m.Write)
	if err != nil {
		return err
	}
	s.sweep(path)
	s.original = device.Info{}
	var o *device.Object
	var more []string // notices
	if m.Write {
		w := device.WriteOptions{
			Size: m.Size, IgnoreSize: m.IgnoreSize, Force: m.Force, Claim: device.Token(m.Claim), Lead: m.Lead,
			Expect: m.Expect, Pins: m.Pins, Seen: seen(m.Kind),
			Zero: zeroModes[m.Zero], Guard: s.policy.guard(path), Reflink: m.Apply == wire.ApplyReflink, Transfer: device.Token(m.Transfer),
		}
		o, more, err = s.openTarget(r, path, &m, w)
	} else {
		o, err = s.openToRead(path)
	}
	if err != nil {
		return err
	}
	o.ReadPast(directModes[m.Direct])
	s.open, s.writing, s.verify, s.salvage = o, m.Write, m.Verify, salvage(o, m.ReadErrors)
	s.received, s.witness = false, nil
	for _, n := range slices.Concat(o.Notices(), more) {
		if err := s.w.Write(&wire.Notice{Text: wire.Clip(n)}); err != nil {
			return err
		}
	}
	return s.w.Write(s.describeOpened(path, o))
}

// describeOpened is opened. What a snapshot was taken of is told instead of the snapshot.
func (s *session) describeOpened(path string, o *device.Object) *wire.Opened {
	m := opened(o)
	if s.original.Name != "" {
		m.Path, m.Entry = path, entry(s.original)
	}
	return m
}

// opened is what the client is told of o. Only a target has identities and
// content.
func opened(o *device.Object) *wire.Opened {
	lasting, content := o.IDs()
	lasting = names(lasting)
	return &wire.Opened{
		Path: o.Path(), Size: o.Size(), Shared: o.Shared(), Entry: entry(o.Info()),
		IDs: names(slices.Concat(lasting, content)), Lasting: int64(len(lasting)), Content: names(o.Content()),
	}
}

// seen is the kind of device that a client has seen, nil for none.
func seen(kind wire.Kind) *device.Kind {
	for k, name := range kinds {
		if name == kind {
			return &k
		}
	}
	return nil
}

// names are as many strings, and as much of each, as a frame may have.
func names(all []string) []string {
	all = slices.Clone(all[:min(len(all), wire.MaxDirectory)])
	for i, s := range all {
		all[i] = s[:min(len(s), wire.MaxName)]
	}
	return all
}

// closeObject ends what openObject began.
func (s *session) closeObject(r *request) error {
	var m wire.Close
	if err := r.frame.Decode(&m); err != nil {
		return err
	}
	o, writing := s.open, s.writing
	s.open, s.writing, s.salvage, s.squeeze = nil, false, nil, compress.Encoder{}
	defer s.release()
	defer s.dropUndo()
	defer s.dropSpool(true)
	if writing && !s.leads {
		witness.Follow(o)
	}
	if m.Commit {
		s.witness.Drop()
		s.witness = nil
	}
	switch {
	case o == nil:
		return nil
	case !writing:
		return o.Close()
	case m.Commit && s.spool != nil && s.leads:
		return s.commitSpool(r.ctx, o, &m)
	case m.Commit:
		return s.endUndo(o, func() error { return s.commit(o, &m) })
	default:
		if err := s.attest(o); err != nil {
			s.tell(err.Error())
		}
		return o.Abort()
	}
}

// commit completes a target. Its partition table is read again while it is still
// held, so that nobody writes to it in between.
func (s *session) commit(o *device.Object, m *wire.Close) error {
	if m.Reread && o.Info().Kind == device.Block && o.Sync() == nil {
		if err := s.w.Write(&wire.Notice{Text: wire.Clip(o.RereadPartitions())}); err != nil {
			return errors.Join(err, o.Close())
		}
	}
	return o.Commit(time.Unix(0, m.ModTime))
}

// abandon closes what is open when the session ends without Close: a new image
// stays under its hidden name, for the next run to go on from.
func (s *session) abandon() {
	s.dropUndo()
	_ = s.dropSpool(false)
	if s.open != nil {
		if s.writing && !s.leads {
			witness.Follow(s.open)
		}
		_ = s.attest(s.open) // nobody is there to be told
		s.open.Close()
		s.open = nil
	}
	s.release()
}

// opened returns what is open, for reading or for writing.
func (s *session) opened(write bool) (*device.Object, error) {
	if s.open == nil || write && !s.writing {
		return nil, wire.Errorf(wire.CodeProtocol, "protocol error: nothing is open for this request")
	}
	return s.open, nil
}

// openedRange is opened, and refuses a range that it does not have.
func (s *session) openedRange(write bool, off, n int64) (*device.Object, error) {
	o, err := s.opened(write)
	if err == nil && (off > o.Size() || n > o.Size()-off) {
		return nil, wire.Errorf(wire.CodeProtocol, "protocol error: bytes %d to %d of %s, which has %d", off, off+n, o.Path(), o.Size())
	}
	return o, err
}

func (s *session) send(r *request) error {
	var m wire.Send
	if err := r.frame.Decode(&m); err != nil {
		return err
	}
	o, err := s.openedRange(false, m.Offset, m.Length)
	if err != nil {
		return err
	}
	if err := s.findHoles(r, o, m.Offset, m.Length); err != nil {
		return err
	}
	defer s.policy.useShare(m.Share)()
	var sum *wire.Summary
	if m.Compare {
		sum, err = delta.CompareSend(r.ctx, r, s.source(), m.Range(), m.Window)
	} else {
		sum, err = delta.Send(r.ctx, r, s.source(), m.Range(), m.Window, s.squeeze.Begin(m.Compress))
	}
	if err != nil {
		return err
	}
	return s.w.Write(sum)
}

func (s *session) receive(r *request) error {
	var m wire.Receive
	if err := r.frame.Decode(&m); err != nil {
		return err
	}
	defer s.policy.useShare(m.Share)()
	if m.Compare {
		return s.compare(r, &m)
	}
	o, err := s.openedRange(true, m.Offset, m.Length)
	if err != nil {
		return err
	}
	s.received = true
	if err := s.findHoles(r, o, m.Offset, m.Length); err != nil {
		return err
	}
	if s.spool != nil {
		return s.spoolRange(r, &m, o)
	}
	tgt := s.kept(o)
	sum, err := s.verified(r, &m, tgt)
	if err != nil {
		return err
	}
	if err := o.Reclaim(r.ctx, m.Offset, m.Length); err != nil {
		return err
	}
	if err := s.completed(&m, tgt, sum); err != nil {
		return err
	}
	return s.w.Write(sum)
}

// compare is receive in a comparison. Where a target is open for writing there is
// something else going on.
func (s *session) compare(r *request, m *wire.Receive) error {
	o, err := s.opened(false)
	switch {
	case err != nil:
		return err
	case s.writing:
		return wire.Errorf(wire.CodeProtocol, "protocol error: %s is open for writing, not to be compared", o.Path())
	case o.Info().Kind == device.Block:
		if _, err := s.openedRange(false, m.Offset, m.Length); err != nil {
			return err
		}
	}
	if err := s.findHoles(r, o, m.Offset, m.Length); err != nil {
		return err
	}
	sum, err := delta.CompareReceive(r.ctx, r, lengthened{source{o}}, m.Range(), m.Window)
	if err != nil {
		return err
	}
	return s.w.Write(sum)
}
