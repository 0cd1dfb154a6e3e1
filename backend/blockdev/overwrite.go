package blockdev

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/helper/signature"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// contentKey is the property that holds what is on a device.
const contentKey = "content"

// holds tells whether something known is on the device that is about to be
// written.
func (t *target) holds() bool {
	return t.lead.opened.Entry.Kind == wire.KindBlock && len(t.lead.opened.Content) > 0
}

// announce says what is on a device before it is overwritten: as a notice when the
// source does not have the same, which is so the first time, and for the record
// every night. source is nil where nothing is known of it. Who has planned the copy
// may refuse it here.
func (t *target) announce(ctx context.Context, source []string) error {
	content, ends := t.lead.opened.Content, Ends{Source: source}
	if t.lead.opened.Entry.Kind == wire.KindBlock {
		ends.IDs, ends.Content = t.lead.opened.IDs[:t.lead.opened.Lasting], content
	}
	if err := planOf(ctx).ready(ends); err != nil {
		return err
	}
	switch {
	case t.lead.opened.Entry.Kind != wire.KindBlock:
	case len(content) == 0:
		fs.Infof(t.o, "overwriting a device on which nothing known was found")
	case slices.Equal(content, source):
		fs.Infof(t.o, "overwriting %s, which the source has too", strings.Join(content, ", "))
	case source == nil:
		fs.Logf(t.o, "overwriting what is on the device: %s", strings.Join(content, ", "))
	case len(source) == 0:
		fs.Logf(t.o, "overwriting what is on the device: %s; nothing known is on the source", strings.Join(content, ", "))
	default:
		fs.Logf(t.o, "overwriting what is on the device: %s; on the source is %s", strings.Join(content, ", "), strings.Join(source, ", "))
	}
	return nil
}

// announceFrom is announce for a source on a host, which is asked when it matters.
func (t *target) announceFrom(ctx context.Context, source *lease) error {
	var content []string
	if t.holds() {
		found, err := source.s.Describe(ctx, source.opened.Path, true)
		if err != nil {
			fs.Debugf(t.o, "what is on the source is not known: %v", err)
		} else {
			content = []string{}
		}
		for _, p := range found {
			if p.Key == contentKey {
				content = append(content, p.Value)
			}
		}
	}
	return t.announce(ctx, content)
}

// announceStream is announce for a source that is read once. It returns the source
// with what was read of it.
func (t *target) announceStream(ctx context.Context, in io.Reader, size int64) (io.Reader, error) {
	if !t.holds() {
		return in, t.announce(ctx, nil)
	}
	first := make([]byte, min(size, signature.HeadSize))
	n, err := io.ReadFull(in, first)
	content := []string{}
	for _, found := range signature.Head(first[:n]) {
		content = append(content, found.String())
	}
	if err := t.announce(ctx, content); err != nil {
		return nil, err
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		in = broken{err}
	}
	return io.MultiReader(bytes.NewReader(first[:n]), in), nil
}

// broken is the rest of a source that has failed.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }
