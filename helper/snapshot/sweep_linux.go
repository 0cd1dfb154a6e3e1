package snapshot

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// orphanTime is how long a snapshot that nobody knows about is left alone: who knows may be in another container.
const orphanTime = 24 * time.Hour

// Sweep removes what killed helpers have left of snapshots of path. It costs nothing where there is nothing.
func Sweep(path string, notice func(string)) {
	for _, o := range owners() {
		sweepPath(o[0], o[1], path, notice)
	}
}

// sweepStrays removes what is left of snapshots of the original of m, and has no set.
func sweepStrays(ctx context.Context, m *Member, notice func(string)) {
	for _, o := range strays(ctx, m.Origin, m.Kind) {
		if o.Name == m.Name || !o.abandoned() {
			continue
		}
		if err := kinds[o.Kind].drop(ctx, &Spec{}, &o); err != nil {
			notice("a snapshot that was left behind: " + err.Error())
		} else {
			notice("removed the snapshot " + o.Name + " of " + m.Path + ", which was left behind")
		}
	}
}

// abandoned tells whether a stray certainly has no owner any more.
func (m *Member) abandoned() bool {
	made := m.made()
	return m.Undo != sameBoot || !made.IsZero() && time.Since(made) > orphanTime
}

func (m *Member) made() time.Time {
	made, _, _ := parseName(m.short())
	return made
}

// short is the name without the group, the volume or the directory.
func (m *Member) short() string {
	name := m.Name[strings.LastIndexAny(m.Name, "/@")+1:]
	return strings.TrimPrefix(name, ".")
}

// strays are the snapshots of an original, or with an empty one of all, that no set has.
func strays(ctx context.Context, origin string, of ...string) (found []Member) {
	known := map[string]bool{}
	for _, o := range owners() {
		if s, err := openSet(o[0], o[1], false); err == nil {
			if st, err := s.load(); err == nil {
				for _, m := range st.Members {
					known[m.Name] = true
				}
			}
			s.close()
		}
	}
	for _, name := range of {
		all, err := kinds[name].orphans(ctx, origin)
		if err != nil {
			continue // without its programs there is nothing of that kind
		}
		for _, m := range all {
			if !known[m.Name] {
				found = append(found, m)
			}
		}
	}
	return found
}

// sweepPath is sweepSet for a set that has to do with path.
func sweepPath(dir, owner, path string, notice func(string)) {
	s, err := openSet(dir, owner, false)
	if err != nil {
		return
	}
	st, err := s.load()
	s.close()
	if err != nil {
		if info, statErr := os.Stat(filepath.Join(dir, owner+".lock")); statErr != nil || time.Since(info.ModTime()) < time.Minute {
			return // it is just being made
		}
		sweepSet(dir, owner, notice)
		return
	}
	mine := st.Spec.Path == path || slices.ContainsFunc(st.Members, func(m Member) bool { return m.Path == path || m.Origin == path })
	if !mine {
		for _, m := range st.Members {
			dev, err := number(path)
			other, otherErr := number(m.Path)
			mine = mine || err == nil && otherErr == nil && dev == other
		}
	}
	if mine {
		sweepSet(dir, owner, notice)
	}
}

// sweepSet ends a set that nobody keeps and nobody needs.
func sweepSet(dir, owner string, notice func(string)) {
	s, err := openSet(dir, owner, false)
	if err != nil {
		return
	}
	defer s.close()
	if s.locked(userByte) || s.keep() != nil {
		return
	}
	st := s.finish(Lost, hastyTime)
	for _, line := range st.Log {
		notice(line)
	}
	if err := st.Problem.err(st.Spec.Path); err != nil {
		notice("a snapshot that was left behind: " + err.Error())
	} else if st.Spec.Kind != "" {
		notice("removed a snapshot of " + st.Spec.Path + " that was left behind")
	}
}

// idLength is how much of an owner is told, in hex digits: who knows all of it may conclude the set.
const idLength = 8

// List tells of all snapshots on this host that this package has made.
func List(ctx context.Context) (all []Kept) {
	for _, o := range owners() {
		s, err := openSet(o[0], o[1], false)
		if err != nil {
			continue
		}
		st, err := s.load()
		state := stateLeft
		switch {
		case s.locked(userByte):
			state = stateUsed
		case s.locked(keeperByte):
			state = stateWaiting
		}
		s.close()
		if err != nil {
			continue
		}
		for _, m := range st.Members {
			all = append(all, Kept{ID: o[1][:idLength], Kind: m.Kind, Path: m.Path, Device: m.Device, State: state, Made: st.Made})
		}
	}
	for _, m := range strays(ctx, "", LVM, ZFS) {
		all = append(all, Kept{ID: m.Name, Kind: m.Kind, Path: m.Path, Device: m.Device, State: stateLeft, Made: m.made()})
	}
	return all
}

// Remove removes the snapshot with an ID of List. One that is in use is refused.
func Remove(ctx context.Context, id string, notice func(string)) error {
	for _, o := range owners() {
		if len(id) < idLength || !strings.HasPrefix(o[1], id) {
			continue
		}
		s, err := openSet(o[0], o[1], false)
		if err != nil {
			return notFound(id)
		}
		used := s.locked(userByte)
		s.close()
		if used {
			return fail(device.ErrBusy, id, "the snapshot is in use by a transfer")
		}
		return Conclude(ctx, o[1], Failed, true, notice)
	}
	for _, m := range strays(ctx, "", LVM, ZFS) {
		if m.Name != id {
			continue
		}
		err := kinds[m.Kind].drop(ctx, &Spec{}, &m)
		if err != nil && !isOurs(err) {
			return fail(device.ErrBusy, id, "%v", err)
		}
		return err
	}
	return fail(device.ErrNotFound, id, "there is no such snapshot of ours")
}

// isOurs tells whether an error is complete as it is.
func isOurs(err error) bool {
	_, ok := err.(*device.Error)
	return ok
}
