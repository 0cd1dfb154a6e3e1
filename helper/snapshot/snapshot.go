// Package snapshot keeps the surroundings of a transfer on its host: it takes snapshots of what is read, freezes file
// systems while that is done, runs the user's hooks, and undoes all of it in the end, whatever happens to the client,
// to the helper, or to the host.
//
// What belongs to one transfer is a set. It has an owner, a random number of the client, and is kept by a process of
// its own, the keeper, which outlives the helper that started it. Sessions that need the set hold a lock; a keeper
// that nobody has needed for the grace time ends the set. What a killed keeper or a restart of the host leaves behind
// is found by the next helper, in files with the state of each set.
//
//	snapshot.go  what a set is, names
//	attach       the side of the helper: Prepare, Conclude, Sweep, List, Remove
//	keeper       the process that makes, keeps and ends a set
//	freeze       two processes that freeze and thaw
//	state        files and locks
//	lvm, lvmthin, zfs, reflink, command   the kinds, one file each
package snapshot

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// Spec says what a transfer wants on its host.
type Spec struct {
	Owner      string        // 32 hex digits
	Path       string        // what the transfer reads or writes
	Write      bool          // it writes: the hooks are those of writing
	Kind       string        // of the snapshots, empty for none
	Group      []string      // paths of all that is taken at one moment; empty for Path alone
	Space      string        // for what changes while a snapshot of LVM exists: bytes, or percent of the origin
	Freeze     []string      // mountpoints
	FreezeTime time.Duration // after which they are thawed in any case
	Grace      time.Duration // how long the set is kept when nobody needs it
	Take, Drop []string      // commands of the kind "command"
	Limited    bool          // only file systems of the originals may be frozen
	Before     []string      // hook
	After      []string      // hook
}

// The kinds of snapshots.
const (
	LVM     = "lvm"
	LVMThin = "lvm-thin"
	ZFS     = "zfs"
	Reflink = "btrfs-file"
	Command = "command"
)

// paths are those of all members, if there are any.
func (s *Spec) paths() []string {
	switch {
	case s.Kind == "":
		return nil
	case len(s.Group) > 0:
		return s.Group
	}
	return []string{s.Path}
}

// Member is one snapshot of a set.
type Member struct {
	Path   string // of what it is a snapshot
	ID     string // of what that was then, as package device gives it
	Kind   string
	Name   string // what the tools of its kind call it; known before it is taken
	Device string // to be read
	Origin string // what the tools call the original
	Size   int64  // bytes of the original, where its kind needs that
	Undo   string // what else must be put back, as its kind writes it
}

// Outcome is how a transfer ended, as hooks are told.
type Outcome string

// The outcomes. Lost is for a client that did not come back.
const (
	Success Outcome = "success"
	Failed  Outcome = "failed"
	Lost    Outcome = "lost"
)

// Kept is a snapshot that exists on the host, for people.
type Kept struct {
	ID     string // for Remove
	Kind   string
	Path   string // of the original
	Device string
	State  string // "in use", "waiting" or "left"
	Made   time.Time
}

// States of a Kept.
const (
	stateUsed    = "in use"  // by a transfer
	stateWaiting = "waiting" // for a client to come back, or for the grace time to pass
	stateLeft    = "left"    // nobody takes care of it
)

// namePrefix begins the name of each snapshot that this package makes.
const namePrefix = "blockdev-"

const nameTime = "20060102T150405Z"

// maxBase is how many bytes of the original's name go into that of a snapshot: LVM has room for 127 in all.
const maxBase = 60

// nameOf is the name of a snapshot: the original's name, the time, and the beginning of the owner.
func nameOf(origin, owner string, now time.Time) string {
	base := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' {
			return r
		}
		return '_'
	}, origin)
	base = base[:min(len(base), maxBase)]
	return namePrefix + base + "-" + now.UTC().Format(nameTime) + "-" + owner[:8]
}

// parseName tells whether nameOf made a name, when, and for whom.
func parseName(name string) (made time.Time, owner string, ok bool) {
	rest, ok := strings.CutPrefix(name, namePrefix)
	if !ok {
		return made, "", false
	}
	parts := strings.Split(rest, "-")
	if len(parts) < 3 || len(parts[len(parts)-1]) != 8 || !isHex(parts[len(parts)-1]) {
		return made, "", false
	}
	made, ok = parseTime(parts[len(parts)-2])
	return made, parts[len(parts)-1], ok
}

// parseTime is the time that was formatted by nameTime. [time.Parse] is large, and nothing else needs it.
func parseTime(s string) (t time.Time, ok bool) {
	var n [6]int // from the year to the second
	at := 0
	for i, digits := range [6]int{4, 2, 2, 2, 2, 2} {
		if i == 3 {
			at++ // the T
		}
		if len(s) < at+digits {
			return t, false
		}
		n[i], _ = strconv.Atoi(s[at : at+digits])
		at += digits
	}
	t = time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], 0, time.UTC)
	return t, t.Format(nameTime) == s
}

// Hidden tells whether a directory entry is a snapshot of this package: a copy of all that is in a directory would
// take it for one more disk. In /dev/mapper LVM doubles the dashes of names, and separates them by one.
func Hidden(name string) bool {
	if _, mapped, ok := strings.Cut(name, "-"+namePrefix+"-"); ok {
		name = namePrefix + strings.TrimSuffix(strings.ReplaceAll(mapped, "--", "-"), "-cow")
	}
	_, _, ok := parseName(strings.TrimPrefix(name[strings.LastIndex(name, "@")+1:], "."))
	return ok
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// fail is a failure of a kind of package device.
func fail(kind error, path, format string, args ...any) error {
	return &device.Error{Op: "snapshot", Path: path, Offset: -1, Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// problem is an error on its way between processes.
type problem struct {
	Kind string
	Path string
	Text string
}

var kindNames = map[string]error{
	"not found": device.ErrNotFound, "busy": device.ErrBusy, "refused": device.ErrRefused, "no space": device.ErrNoSpace,
	"permission": device.ErrPermission, "unsupported": device.ErrUnsupported, "read-only": device.ErrReadOnly, "io": device.ErrIO,
	"size": device.ErrSizeMismatch,
}

// problemOf is err as another process is told.
func problemOf(err error) *problem {
	if err == nil {
		return nil
	}
	p := &problem{Kind: "io", Text: err.Error()}
	var de *device.Error
	if errors.As(err, &de) && de.Err == nil && de.Text != "" {
		p.Path, p.Text = de.Path, de.Text
	}
	for name, kind := range kindNames {
		if errors.Is(err, kind) {
			p.Kind = name
		}
	}
	return p
}

// err is the error that problemOf was given. Its path is the one of the request where it had none of its own.
func (p *problem) err(path string) error {
	if p == nil {
		return nil
	}
	if p.Path != "" {
		path = p.Path
	}
	kind, ok := kindNames[p.Kind]
	if !ok {
		kind = device.ErrIO
	}
	return fail(kind, path, "%s", p.Text)
}
