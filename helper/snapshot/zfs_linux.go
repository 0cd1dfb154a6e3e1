package snapshot

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// zfs takes snapshots of volumes of ZFS. They have the property zfsMark. A snapshot has a device only where the volume
// has snapdev=visible, which is set for as long as snapshots of ours exist.
type zfs struct{}

const zfsMark = "rclone-blockdev:owner"

func (zfs) plan(ctx context.Context, spec *Spec, path string, now time.Time) (Member, error) {
	const what = "snapshot = zfs"
	dev, err := number(path)
	if err != nil {
		return Member{}, fail(device.ErrRefused, path, "%s: is not a volume of ZFS", what)
	}
	out, err := tool(ctx, "zfs", "list", "-H", "-o", "name", "-t", "volume")
	if err != nil {
		return Member{}, toolFailed(path, what, err)
	}
	for name := range strings.Lines(out) {
		name = strings.TrimSpace(name)
		if n, err := number("/dev/zvol/" + name); err == nil && n == dev {
			m := Member{Path: path, Kind: ZFS, Origin: name, Name: name + "@" + nameOf(last(name), spec.Owner, now)}
			if m.Undo, err = snapdev(ctx, name); err != nil {
				return m, toolFailed(path, what, err)
			}
			return m, nil
		}
	}
	return Member{}, fail(device.ErrRefused, path, "%s: is not a volume of ZFS", what)
}

// snapdev tells how the property is to be restored, empty when it need not be changed.
func snapdev(ctx context.Context, volume string) (undo string, err error) {
	out, err := tool(ctx, "zfs", "get", "-H", "-o", "value,source", "snapdev", volume)
	value, source, _ := strings.Cut(out, "\t")
	switch {
	case err != nil:
		return "", err
	case value == "visible":
		return "", nil
	case strings.TrimSpace(source) == "local":
		return value, nil
	}
	return "inherit", nil
}

// last is the last part of a path.
func last(name string) string { return name[strings.LastIndex(name, "/")+1:] }

func (zfs) take(ctx context.Context, spec *Spec, m *Member) error {
	const what = "taking a snapshot"
	_, err := tool(ctx, "zfs", "snapshot", "-o", zfsMark+"="+spec.Owner, m.Name)
	if err == nil && m.Undo != "" {
		_, err = tool(ctx, "zfs", "set", "snapdev=visible", m.Origin)
	}
	if err != nil {
		return toolFailed(m.Path, what, err)
	}
	m.Device, err = await(ctx, "/dev/zvol/"+m.Name)
	if err != nil {
		return toolFailed(m.Path, what, err)
	}
	return nil
}

func (zfs) check(ctx context.Context, m *Member) error {
	_, err := tool(ctx, "zfs", "list", "-H", "-o", "name", m.Name)
	switch {
	case says(err, "does not exist", "not found"):
		return notFound(m.Path)
	case err != nil:
		return toolFailed(m.Path, "looking at its snapshot", err)
	}
	return nil
}

func (z zfs) drop(ctx context.Context, spec *Spec, m *Member) error {
	what := "removing its snapshot " + m.Name
	mark, err := tool(ctx, "zfs", "get", "-H", "-o", "value", zfsMark, m.Name)
	switch {
	case says(err, "does not exist", "not found"):
		return z.restore(ctx, m)
	case err != nil:
		return toolFailed(m.Path, what, err)
	}
	if _, _, ok := parseName(m.Name[strings.Index(m.Name, "@")+1:]); !ok || !isOwner(mark) {
		return fail(device.ErrRefused, m.Path, "%s is not removed: it has not the property %s that a snapshot of ours has", m.Name, zfsMark)
	}
	_, err = tool(ctx, "zfs", "destroy", m.Name)
	switch {
	case says(err, "busy", "in use"):
		return fmt.Errorf("%w: %w", errInUse, err)
	case err != nil:
		return toolFailed(m.Path, what, err)
	}
	return z.restore(ctx, m)
}

// restore gives snapdev its value back, unless another snapshot of ours needs it. That one then leaves it visible.
func (z zfs) restore(ctx context.Context, m *Member) error {
	if m.Undo == "" {
		return nil
	}
	others, err := z.orphans(ctx, m.Origin)
	if err != nil {
		return err
	}
	for _, o := range others {
		if o.Origin == m.Origin && o.Name != m.Name {
			return nil
		}
	}
	args := []string{"inherit", "snapdev", m.Origin}
	if m.Undo != "inherit" {
		args = []string{"set", "snapdev=" + m.Undo, m.Origin}
	}
	if _, err := tool(ctx, "zfs", args...); err != nil && !says(err, "does not exist") {
		return toolFailed(m.Path, "setting snapdev as it was", err)
	}
	return nil
}

func (zfs) orphans(ctx context.Context, origin string) (found []Member, err error) {
	args := []string{"list", "-H", "-o", "name," + zfsMark, "-t", "snapshot"}
	if origin != "" { // a host may have very many
		args = append(args, "-d", "1", origin)
	}
	out, err := tool(ctx, "zfs", args...)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		name, mark, _ := strings.Cut(strings.TrimSpace(line), "\t")
		volume, snap, _ := strings.Cut(name, "@")
		if _, _, ok := parseName(snap); ok && isOwner(mark) {
			found = append(found, Member{Path: "/dev/zvol/" + volume, Kind: ZFS, Name: name, Origin: volume, Device: "/dev/zvol/" + name})
		}
	}
	return found, nil
}
