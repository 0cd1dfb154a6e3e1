package host

import (
	"context"
	"fmt"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Undo asks for what *wire.Undo or *wire.Recover stand for, and tells what was done.
// progress is called with the number of bytes read.
func (s *Session) Undo(ctx context.Context, req wire.Message, progress func(done int64)) (all []wire.Property, err error) {
	err = s.call(ctx, req, func(f *wire.Frame) error {
		if f.Type == wire.TypeProgress {
			var m wire.Progress
			if err := f.Decode(&m); err != nil {
				return err
			}
			progress(m.Done)
			return nil
		}
		if all != nil {
			return ignore(f)
		}
		var m wire.Properties
		if err := f.Decode(&m); err != nil {
			return err
		}
		all = []wire.Property{}
		for _, p := range m.Properties {
			all = append(all, wire.Property{Key: oneLine(p.Key, wire.MaxName), Value: oneLine(p.Value, wire.MaxName)})
		}
		return nil
	})
	if err == nil && all == nil {
		err = fmt.Errorf("protocol error: the helper of %s does not tell what it has undone", s.host.name)
	}
	return all, err
}
