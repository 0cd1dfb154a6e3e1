package host

import (
	"context"
	"fmt"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Prepare makes the surroundings of a transfer, or finds them. The next Open for
// reading of the path of req on this session reads the snapshot.
func (s *Session) Prepare(ctx context.Context, req *wire.Prepare) (*wire.Prepared, error) {
	var m wire.Prepared
	if err := s.ask(ctx, req, &m); err != nil {
		return nil, err
	}
	m.Device = oneLine(m.Device, wire.MaxName)
	return &m, nil
}

// Detach tells that this session needs what was prepared no longer, where nothing was
// opened after that.
func (s *Session) Detach(ctx context.Context) error { return s.call(ctx, &wire.Close{}, ignore) }

// Conclude ends what Prepare has begun, on this session or another one.
func (s *Session) Conclude(ctx context.Context, req *wire.Conclude) error {
	return s.call(ctx, req, ignore)
}

// Snapshots lists the snapshots that helpers have made on the host, or removes the
// one with that ID.
func (s *Session) Snapshots(ctx context.Context, remove string) (all []wire.Kept, err error) {
	err = s.call(ctx, &wire.Snapshots{Remove: remove}, func(f *wire.Frame) error {
		var m wire.Kept
		if err := f.Decode(&m); err != nil {
			return err
		}
		for _, text := range []*string{&m.ID, &m.Kind, &m.Path, &m.Device, &m.State} {
			*text = oneLine(*text, wire.MaxName)
		}
		if all = append(all, m); len(all) > maxEntries {
			return fmt.Errorf("%s: more than %d snapshots", s.host.name, maxEntries)
		}
		return nil
	})
	return all, err
}
