package helper

import (
	"slices"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/snapshot"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// decode reads a request and checks its path against the policy.
func decode[T any, M interface {
	*T
	wire.Message
}](s *session, r *request, path func(M) *string, write bool) (M, error) {
	m := M(new(T))
	if err := r.frame.Decode(m); err != nil {
		return nil, err
	}
	checked, err := s.policy.check(*path(m), write)
	if err != nil {
		return nil, err
	}
	*path(m) = checked
	return m, nil
}

func (s *session) stat(r *request) error {
	m, err := decode(s, r, func(m *wire.Stat) *string { return &m.Path }, false)
	if err != nil {
		return err
	}
	info, err := device.Stat(m.Path)
	if err != nil {
		return err
	}
	return s.w.Write(&wire.Entries{Entries: []wire.Entry{entry(info)}})
}

func (s *session) list(r *request) error {
	m, err := decode(s, r, func(m *wire.List) *string { return &m.Path }, false)
	if err != nil {
		return err
	}
	infos, err := device.List(m.Path)
	if err != nil {
		return err
	}
	infos = slices.DeleteFunc(infos, func(info device.Info) bool { return snapshot.Hidden(info.Name) })
	for len(infos) > 0 {
		n := min(len(infos), wire.MaxDirectory)
		var batch wire.Entries
		for _, info := range infos[:n] {
			batch.Entries = append(batch.Entries, entry(info))
		}
		if err := s.w.Write(&batch); err != nil {
			return err
		}
		infos = infos[n:]
	}
	return nil
}

func (s *session) mkdir(r *request) error {
	m, err := decode(s, r, func(m *wire.Mkdir) *string { return &m.Path }, true)
	if err != nil {
		return err
	}
	return device.Mkdir(m.Path)
}

func (s *session) rmdir(r *request) error {
	m, err := decode(s, r, func(m *wire.Rmdir) *string { return &m.Path }, true)
	if err != nil {
		return err
	}
	return s.policy.at(m.Path, device.Rmdir)
}

func (s *session) remove(r *request) error {
	m, err := decode(s, r, func(m *wire.Remove) *string { return &m.Path }, true)
	if err != nil {
		return err
	}
	return s.policy.at(m.Path, device.Remove)
}

func (s *session) setTime(r *request) error {
	m, err := decode(s, r, func(m *wire.SetTime) *string { return &m.Path }, true)
	if err != nil {
		return err
	}
	return s.policy.at(m.Path, func(path string) error { return device.SetTime(path, time.Unix(0, m.ModTime)) })
}

func (s *session) statFS(r *request) error {
	m, err := decode(s, r, func(m *wire.StatFS) *string { return &m.Path }, false)
	if err != nil {
		return err
	}
	u, err := device.StatFS(m.Path)
	if err != nil {
		return err
	}
	return s.w.Write(&wire.Usage{Total: u.Total, Free: u.Free, Available: u.Available})
}

var kinds = map[device.Kind]wire.Kind{device.File: wire.KindFile, device.Block: wire.KindBlock, device.Dir: wire.KindDir}

// entry is info as it crosses the wire.
func entry(info device.Info) wire.Entry {
	e := wire.Entry{
		Name: info.Name, Kind: kinds[info.Kind], ReadOnly: info.ReadOnly, Rotational: info.Rotational,
		Size: info.Size, Allocated: info.Allocated, SectorSize: uint32(info.BlockSize), ID: info.ID,
	}
	if !info.ModTime.IsZero() {
		e.ModTime = info.ModTime.UnixNano()
	}
	return e
}
