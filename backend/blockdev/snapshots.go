package blockdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// keptSnapshot is a snapshot as the command snapshots prints it.
type keptSnapshot struct {
	ID     string    `json:"id"`
	Kind   string    `json:"kind"`
	Path   string    `json:"path"`
	Device string    `json:"device,omitempty"`
	State  string    `json:"state"`
	Made   time.Time `json:"made,omitzero"`
}

// stateInUse is what a host says of a snapshot that a transfer reads.
const stateInUse = "in use"

func (f *Fs) snapshots(ctx context.Context, _ []string, opt map[string]string) (any, error) {
	h, err := f.host()
	if err != nil {
		return nil, err
	}
	at := place{h, "/"}
	if id := opt["remove"]; id != "" {
		if operations.SkipDestructive(ctx, h, "remove snapshots") {
			return nil, nil
		}
		return at.removeSnapshots(ctx, id)
	}
	all, err := at.snapshots(ctx)
	if err != nil {
		return nil, err
	}
	list := []keptSnapshot{}
	for _, k := range all {
		s := keptSnapshot{ID: k.ID, Kind: k.Kind, Path: k.Path, Device: k.Device, State: k.State}
		if k.Made > 0 {
			s.Made = time.Unix(0, k.Made).UTC()
		}
		list = append(list, s)
	}
	return list, nil
}

func (p place) snapshots(ctx context.Context) (all []wire.Kept, err error) {
	err = p.ask(ctx, func(s *host.Session) error {
		all, err = s.Snapshots(ctx, "")
		return err
	})
	return all, err
}

// removeSnapshots removes the one with an ID, or all that nobody uses.
func (p place) removeSnapshots(ctx context.Context, id string) (any, error) {
	ids := []string{id}
	if id == "all" {
		all, err := p.snapshots(ctx)
		if err != nil {
			return nil, err
		}
		ids = nil
		for _, k := range all {
			if k.State != stateInUse && !slices.Contains(ids, k.ID) {
				ids = append(ids, k.ID)
			}
		}
	}
	removed := []string{}
	var failed error
	for _, id := range ids {
		err := p.with(ctx, func(s *host.Session) error {
			_, err := s.Snapshots(ctx, id)
			return err
		})
		if err == nil {
			removed = append(removed, id)
		}
		failed = errors.Join(failed, err)
	}
	return struct {
		Removed []string `json:"removed"`
	}{removed}, failed
}

// steps tells people what is done around the transfers of a path.
func (o *Options) steps(path string) (steps []string) {
	hook := func(name string, words fs.SpaceSepList) {
		if len(words) > 0 {
			steps = append(steps, name+": "+strings.Join(words, " "))
		}
	}
	hook("before_read", o.BeforeRead)
	if wire.Snapshotting(o.Snapshot) != wire.SnapshotNone {
		of := []string{path}
		if slices.Contains(o.SnapshotGroup, path) {
			of = o.SnapshotGroup
		}
		step := fmt.Sprintf("snapshot: %v of %s", o.Snapshot, strings.Join(of, ", "))
		if wire.Snapshotting(o.Snapshot) == wire.SnapshotLVM {
			step += ", with space for " + cmp.Or(o.SnapshotSize, "20%")
		}
		if len(o.SnapshotFreeze) > 0 {
			step += fmt.Sprintf(", while %s is frozen, for %v at most", strings.Join(o.SnapshotFreeze, ", "), o.FreezeTimeout)
		}
		steps = append(steps, step)
	}
	hook("after_read", o.AfterRead)
	hook("before_write", o.BeforeWrite)
	hook("after_write", o.AfterWrite)
	return steps
}
