package host

import (
	"context"
	"fmt"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Root is the root of range r of what is open. progress is called from time to
// time with the number of bytes done.
func (s *Session) Root(ctx context.Context, r block.Range, progress func(done int64)) (block.Digest, error) {
	return s.sum(ctx, &wire.Root{Offset: r.Offset, Length: r.Length, BlockSize: uint32(r.BlockSize)}, progress)
}

// maxProperties bounds what a helper can make this side keep of one object.
const maxProperties = 4096

// Describe tells all that the host knows of path, which is opened only to look
// what is on it. Keys and values are printable and on one line.
func (s *Session) Describe(ctx context.Context, path string, look bool) (all []wire.Property, err error) {
	var req wire.Describe
	req.Path, req.Look = path, look
	err = s.call(ctx, &req, func(f *wire.Frame) error {
		var m wire.Properties
		if err := f.Decode(&m); err != nil {
			return err
		}
		for _, p := range m.Properties {
			all = append(all, wire.Property{Key: oneLine(p.Key, wire.MaxName), Value: oneLine(p.Value, wire.MaxName)})
		}
		if len(all) > maxProperties {
			return fmt.Errorf("protocol error: the helper of %s tells more than %d facts about one object", s.host.name, maxProperties)
		}
		return nil
	})
	return all, err
}

// Ping has the helper send n bytes, and returns how long that took from the
// request on.
func (s *Session) Ping(ctx context.Context, n int64) (time.Duration, error) {
	start, got := time.Now(), int64(0)
	err := s.call(ctx, &wire.Ping{Bytes: n}, func(f *wire.Frame) error {
		var m wire.Data
		if err := f.Decode(&m); err != nil {
			return err
		}
		got += int64(len(m.Data))
		return nil
	})
	if err == nil && got != n {
		err = fmt.Errorf("protocol error: the helper of %s sent %d bytes, not %d", s.host.name, got, n)
	}
	return time.Since(start), err
}
