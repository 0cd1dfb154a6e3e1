package tool

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/progress"
)

// info tells what is known of a device, an image or a manifest.
func info(ctx context.Context, c *call) error {
	facts, err := c.facts(ctx, c.arg[0])
	if err != nil {
		return err
	}
	values := device.Values(facts)
	if c.json {
		pairs := []any{"event", "info", "time", time.Now(), "name", c.arg[0]}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			value := values[key]
			if s, ok := value.(string); ok && ofManifest[key] {
				value, _ = strconv.ParseInt(s, 10, 64)
			}
			pairs = append(pairs, key, value)
		}
		_, err := c.Out.Write(appendObject(nil, pairs))
		return err
	}
	width := 0
	for _, f := range facts {
		width = max(width, len(f.Key))
	}
	for _, f := range facts {
		value := f.Value
		if n, ok := values[f.Key].(int64); ok && n >= 1024 {
			value += " (" + progress.Size(n) + ")"
		}
		if _, err := fmt.Fprintf(c.Out, "%-*s  %s\n", width, f.Key, value); err != nil {
			return err
		}
	}
	return nil
}

// ofManifest are the facts that only manifests have and that are numbers.
var ofManifest = map[string]bool{"device-size": true, "block-size": true, "extents": true, "zero-extents": true}

// facts are those of package device; a manifest has its own.
func (c *call) facts(ctx context.Context, name string) ([]device.Property, error) {
	if name != "-" && !isManifest(name) {
		return device.Describe(name, true)
	}
	s, err := c.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer s.close()
	m, zero := s.man, int64(0)
	for i := range m.Extents() {
		is, err := m.Zero(i)
		if err != nil {
			return nil, err
		}
		if is {
			zero++
		}
	}
	facts := []device.Property{{Key: "kind", Value: "manifest"}, {Key: "path", Value: m.Path}}
	for _, n := range []struct {
		key   string
		value int64
	}{{"size", m.Size}, {"device-size", m.Of}, {"block-size", int64(m.BlockSize)}, {"extents", m.Extents()}, {"zero-extents", zero}} {
		facts = append(facts, device.Property{Key: n.key, Value: strconv.FormatInt(n.value, 10)})
	}
	facts = append(facts, device.Property{Key: "made", Value: m.Time.Format(time.RFC3339Nano)}, device.Property{Key: "root", Value: hexDigest(m.Root)})
	for _, id := range m.IDs {
		facts = append(facts, device.Property{Key: "ids", Value: id})
	}
	return facts, nil
}
