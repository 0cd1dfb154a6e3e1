package blockdev

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

const (
	// aliasTime is how long a file counts as having the other name under which it
	// was found: longer than a directory takes from its listing to its deletions.
	aliasTime = 10 * time.Minute
	// maxAliases bounds the files that are remembered.
	maxAliases = 1 << 17
)

// aliases remembers under which names image files were found. To rclone, one file
// that is reached through two names of a host, or through a link, is two equal
// files: "move" leaves the one and removes the other, and so the only one.
type aliases struct {
	mu    sync.Mutex
	found map[string]sighting // by identity; hold mu
}

// sighting is the last two different names of a file.
type sighting struct {
	at, before     place
	when, previous time.Time
}

var names aliases

// saw remembers that e is at p.
func (a *aliases) saw(e wire.Entry, p place, now time.Time) {
	if e.ID == "" || e.Kind != wire.KindFile {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.found == nil || len(a.found) == maxAliases {
		a.found = map[string]sighting{}
	}
	s := a.found[e.ID]
	if s.at != p {
		s.before, s.previous = s.at, s.when
	}
	s.at, s.when = p, now
	a.found[e.ID] = s
}

// other is another name than p under which the file was found lately, or none.
func (a *aliases) other(id string, p place, now time.Time) (place, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.found[id]
	switch {
	case s.at.host != nil && s.at != p && now.Sub(s.when) < aliasTime:
		return s.at, true
	case s.before.host != nil && s.before != p && now.Sub(s.previous) < aliasTime:
		return s.before, true
	}
	return place{}, false
}

// refuseAlias refuses to remove the file at p, found with that identity, when
// another name leads to it still. Both are asked, since what was found may have
// been replaced; a name that cannot be asked may still lead there.
func refuseAlias(ctx context.Context, id string, p place) error {
	other, ok := names.other(id, p, time.Now())
	if !ok {
		return nil
	}
	for _, name := range []place{p, other} {
		now, err := lookAt(ctx, name)
		switch {
		case errors.Is(err, wire.CodeNotFound), err == nil && now != id:
			return nil
		case err != nil:
			return fmt.Errorf("%s: cannot tell whether it is the same file as %s: %w", p, other, err)
		}
	}
	return refuse("%s: is the same file as %s, which would be lost with it: when only one of the names is to go, remove it on the host", p, other)
}

// lookAt is the identity of what is at p.
func lookAt(ctx context.Context, p place) (id string, err error) {
	err = p.ask(ctx, func(s *host.Session) error {
		e, err := s.Stat(ctx, p.path)
		id = identity(s, e)
		return err
	})
	return id, err
}
