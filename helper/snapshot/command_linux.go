package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// command leaves all to a pair of programs of the user. The first one takes the snapshot and prints, in its last
// line, what is to be read. The second one removes it; it must succeed when there is nothing to remove.
type command struct{}

func (command) plan(_ context.Context, spec *Spec, path string, now time.Time) (Member, error) {
	if len(spec.Take) == 0 || len(spec.Drop) == 0 {
		return Member{}, fail(device.ErrRefused, path, "snapshot = command: needs snapshot_command and snapshot_remove_command")
	}
	return Member{Path: path, Kind: Command, Origin: path, Name: nameOf(filepath.Base(path), spec.Owner, now)}, nil
}

// variables are those of both programs.
func (command) variables(spec *Spec, m *Member) []string {
	return []string{"BLOCKDEV_PATH=" + m.Path, "BLOCKDEV_SNAPSHOT=" + m.Name, "BLOCKDEV_OWNER=" + spec.Owner, "BLOCKDEV_DEVICE=" + m.Device}
}

func (k command) take(ctx context.Context, spec *Spec, m *Member) error {
	out, said, err := execute(ctx, toolTime, k.variables(spec, m), spec.Take)
	if err != nil {
		return hookFailed(m.Path, "snapshot_command", spec.Take, said, err)
	}
	printed := ""
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" {
			printed = line
		}
	}
	info, err := os.Stat(printed)
	if !filepath.IsAbs(printed) || err != nil || info.IsDir() {
		return fail(device.ErrRefused, m.Path, "snapshot_command: its last line must be the path of the device to read, but is %q", clean(printed))
	}
	m.Device = printed
	return nil
}

func (command) check(_ context.Context, m *Member) error {
	if !exists(m.Device) {
		return notFound(m.Path)
	}
	return nil
}

func (k command) drop(ctx context.Context, spec *Spec, m *Member) error {
	_, said, err := execute(ctx, toolTime, k.variables(spec, m), spec.Drop)
	if err != nil {
		return hookFailed(m.Path, "snapshot_remove_command", spec.Drop, said, err)
	}
	return nil
}

// orphans are not known to anybody but the user's programs. Their sets are remembered on disk.
func (command) orphans(context.Context, string) ([]Member, error) { return nil, nil }

// hookFailed explains why a program of the user failed.
func hookFailed(path, option string, words []string, said string, err error) error {
	text := err.Error()
	var de *device.Error
	if errors.As(err, &de) {
		text = de.Text
	} else if line := oneLine(said); line != "" {
		text += ": " + line
	}
	return fail(device.ErrRefused, path, "%s: %s: %s", option, words[0], text)
}
